use super::*;
use serde_json::json;
#[test]
fn dbg() {
    let r = Renderer::new(RenderOptions::default()).unwrap();
    let t = r.template("article").unwrap();
    let mut data = t.sample.clone();
    data["title"] = json!("An unreasonably long headline that somebody pasted from a press release without thinking about how it might look on a card, and which goes on, and on, well past the point where any editor would have stepped in to cut it down to size. An unreasonably long headline that somebody");
    let page = r.inner.page(t, &data, (600, 630), 1.0).unwrap();
    let css = fit::solve(&page, &t.fits).unwrap();
    eprintln!("{css}");
    let l = page.lay_out(&css).unwrap();
    let i = l.find("title").unwrap();
    eprintln!("{:?} parent {:?}", l.boxes[i], l.boxes[l.boxes[i].parent.unwrap()]);
    for r in l.runs_in(i) { eprintln!("{r:?}"); }
}
