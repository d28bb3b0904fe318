use std::fs;
use std::sync::LazyLock;

use serde_json::json;

use super::page::{Layout, Rect};
use super::*;

static RENDERER: LazyLock<Renderer> = LazyLock::new(|| Renderer::new(RenderOptions::default()).unwrap());

/// Long enough to need every means of making it fit.
const LONG: &str = "An unreasonably long headline that somebody pasted without thinking about how it might look on a \
    card, and which goes on, well past the point where any editor would have stepped in to cut it down to size";
const ARABIC: &str = "كيف تحافظ برك المد والجزر على الوقت بدون ساعة";

/// The main text of each built-in template.
const MAIN: [(&str, &str); 3] = [("article", "title"), ("product", "name"), ("quote", "quote")];

fn sample(template: &str, changes: Value) -> Value {
    let mut data = RENDERER.template(template).unwrap().sample.clone();
    let Value::Object(changes) = changes else { panic!("{changes} is no object") };
    data.as_object_mut().unwrap().extend(changes);
    data
}

fn render(template: &str, data: &Value, size: (u32, u32)) -> Result<Rendered, RenderError> {
    RENDERER.render(&RenderJob { size: Some(size), ..RenderJob::new(template, data) })
}

/// The layout that is painted, and the CSS that makes the text fit.
fn laid_out(template: &str, data: &Value, size: (u32, u32)) -> (Layout, String) {
    let template = RENDERER.template(template).unwrap();
    let data = RENDERER.canonical_data(&template.id, data).unwrap();
    let page = RENDERER.inner.page(template, &data, size, 1.0).unwrap();
    let css = fit::solve(&page, &template.fits).unwrap();
    (page.lay_out(&css).unwrap(), css)
}

/// Font size of an element, in rem.
fn text_size(template: &str, element: &str, data: &Value) -> f32 {
    let (_, css) = laid_out(template, data, (1200, 630));
    css.split(&format!("#{element}{{font-size:")).nth(1).unwrap().split("rem").next().unwrap().parse().unwrap()
}

fn png(width: u32, height: u32) -> String {
    let bitmap = Bitmap::from_raw(width, height, vec![200; (width * height * 4) as usize]).unwrap();
    data_url("png", &encode(&bitmap, Format::Png, 100).unwrap())
}

fn data_url(kind: &str, bytes: &[u8]) -> String {
    format!("data:image/{kind};base64,{}", base64_simd::STANDARD.encode_to_string(bytes))
}

fn problem(result: Result<impl std::fmt::Debug, RenderError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn every_template_draws_its_sample_at_every_shape() {
    for template in RENDERER.templates() {
        for (width, height) in [(1200, 630), (600, 600), (360, 640), (300, 200), (900, 300)] {
            let drawn = render(&template.id, &template.sample, (width, height)).unwrap();
            let size = imagesize::blob_size(&drawn.bytes).unwrap();
            assert_eq!((size.width as u32, size.height as u32), (width, height), "{}", template.id);
        }
    }
}

#[test]
fn templates_are_sorted_and_complete() {
    let ids: Vec<&str> = RENDERER.templates().map(|template| template.id.as_str()).collect();
    assert_eq!(ids, ["article", "product", "quote"]);
    for template in RENDERER.templates() {
        assert_eq!(template.version.len(), 64);
        assert!(template.fields.iter().all(|field| !field.description.is_empty() || field.kind == FieldKind::Bool));
    }
}

#[test]
fn the_same_data_give_the_same_bytes() {
    let data = sample("article", json!({ "title": "Again 🚀 again, עוד פעם", "theme": "dark" }));
    let other = Renderer::new(RenderOptions::default()).unwrap();
    for format in [Format::Png, Format::Jpeg, Format::WebP] {
        let job = RenderJob { size: Some((600, 315)), format, ..RenderJob::new("article", &data) };
        let first = RENDERER.render(&job).unwrap().bytes;
        assert_eq!(first, RENDERER.render(&job).unwrap().bytes);
        assert_eq!(first, other.render(&job).unwrap().bytes);
    }
    assert_eq!(RENDERER.template("quote").unwrap().version, other.template("quote").unwrap().version);
}

#[test]
fn formats_and_scale_are_what_was_asked_for() {
    let data = sample("quote", json!({}));
    let kinds = [
        (Format::Png, imagesize::ImageType::Png),
        (Format::Jpeg, imagesize::ImageType::Jpeg),
        (Format::WebP, imagesize::ImageType::Webp),
    ];
    for (format, kind) in kinds {
        let job = RenderJob { size: Some((400, 300)), scale: 1.5, format, ..RenderJob::new("quote", &data) };
        let drawn = RENDERER.render(&job).unwrap();
        assert_eq!(imagesize::image_type(&drawn.bytes).unwrap(), kind);
        assert_eq!((drawn.width, drawn.height), (600, 450));
        let size = imagesize::blob_size(&drawn.bytes).unwrap();
        assert_eq!((size.width, size.height), (600, 450));
    }
}

/// Every piece of text lies in its box and on the card, and boxes with text do not cover each other.
fn assert_nothing_spills(layout: &Layout, what: &str) {
    let texts: Vec<_> = layout.boxes.iter().filter(|it| !it.runs.is_empty()).collect();
    for (index, a) in texts.iter().enumerate() {
        assert!(layout.canvas.holds(&a.outer), "{what}: {a:?} leaves the card");
        assert!(a.runs.iter().all(|run| a.content.holds_across(run)), "{what}: {a:?} is too narrow");
        for b in texts.iter().skip(index + 1) {
            let across = a.outer.right.min(b.outer.right) - a.outer.left.max(b.outer.left);
            let down = a.outer.bottom.min(b.outer.bottom) - a.outer.top.max(b.outer.top);
            assert!(across <= 0.5 || down <= 0.5, "{what}: {a:?} covers {b:?}");
        }
    }
}

fn hull(runs: &[Rect]) -> Option<Rect> {
    runs.iter().copied().reduce(|a, b| Rect {
        left: a.left.min(b.left),
        top: a.top.min(b.top),
        right: a.right.max(b.right),
        bottom: a.bottom.max(b.bottom),
    })
}

#[test]
fn no_text_leaves_its_place_or_covers_another() {
    let word = "W".repeat(200);
    let emoji = "👩‍👩‍👧‍👦🚀".repeat(40);
    let arabic = ARABIC.repeat(4);
    for (template, field) in MAIN {
        for text in ["x", LONG, &word, &emoji, &arabic, "https://example.com/a/very/long/path?with=a&long=query"] {
            let text: String = text.chars().take(200).collect();
            let data = sample(template, json!({ field: text }));
            for size in [(1200, 630), (1080, 1080), (1080, 1920), (300, 200), (1500, 500)] {
                let (layout, css) = laid_out(template, &data, size);
                assert_nothing_spills(&layout, &format!("{template} {size:?} {text:.20} {css}"));
            }
        }
    }
}

#[test]
fn longer_text_is_set_smaller() {
    for (template, field) in MAIN {
        let size = |text: &str| text_size(template, field, &sample(template, json!({ field: text })));
        let (short, middle, long) = (size("Short"), size(&LONG[..70]), size(&LONG[..180]));
        assert!(short >= middle && middle >= long && short > long, "{template}: {short} {middle} {long}");
    }
}

#[test]
fn text_that_cannot_fit_ends_with_an_ellipsis() {
    let data = sample("product", json!({ "name": &LONG[..190] }));
    let (layout, css) = laid_out("product", &data, (1200, 630));
    assert!(css.contains("#name{font-size:1.75rem;overflow-wrap:anywhere;line-clamp:4}"), "{css}");
    assert_nothing_spills(&layout, &css);
}

#[test]
fn a_long_word_is_broken_only_when_shrinking_is_not_enough() {
    let size = |text: &str| laid_out("quote", &sample("quote", json!({ "quote": text })), (1200, 630)).1;
    assert!(size("Donaudampfschifffahrtsgesellschaftskapitän").contains("overflow-wrap:normal"));
    assert!(size(&"w".repeat(200)).contains("overflow-wrap:anywhere"));
}

#[test]
fn right_to_left_text_mirrors_the_card() {
    let edge = |title: &str| {
        let (layout, _) = laid_out("article", &sample("article", json!({ "title": title })), (1200, 630));
        let runs = layout.runs_in(layout.find("title").unwrap());
        hull(&runs).unwrap()
    };
    let (latin, arabic) = (edge("How tide pools keep time"), edge(ARABIC));
    assert!(latin.left < 100.0 && latin.right < 1100.0, "{latin:?}");
    assert!(arabic.left > 100.0 && arabic.right > 1100.0, "{arabic:?}");
}

#[test]
fn letters_are_shaped_and_ordered() {
    let draw = |title: &str| render("article", &json!({ "title": title }), (600, 315)).unwrap().bytes;
    // Joined letters differ from the same letters kept apart; Hebrew differs from its reversal.
    assert_ne!(draw("ببب"), draw("ب\u{200c}ب\u{200c}ب"));
    assert_ne!(draw("שלום"), draw("םולש"));
    // A combining mark is drawn as the composed letter is.
    assert_eq!(draw("cafe\u{301}"), draw("café"));
    // Emoji have colour and are not boxes: two of them differ.
    assert_ne!(draw("🚀"), draw("🍋"));
}

fn without_pictures(template: &Template, mut data: Value) -> Value {
    for field in template.fields.iter().filter(|field| field.kind == FieldKind::Image) {
        data.as_object_mut().unwrap().remove(&field.name);
    }
    data
}

#[test]
fn data_are_text_and_never_markup_or_template() {
    let hostile = "<script>x</script><b>{{ 7*7 }}{% if %} \"'&amp;</b><style>*{display:none}</style>";
    for (template, field) in MAIN {
        let entry = RENDERER.template(template).unwrap();
        let data = RENDERER.canonical_data(template, &sample(template, json!({ field: hostile }))).unwrap();
        let data = without_pictures(entry, data);
        let environment = &RENDERER.inner.environment;
        let filled = context(entry, &data, &BTreeMap::new(), (1200, 630));
        let html = environment.get_template(template).unwrap().render(filled).unwrap();
        assert!(!html.contains("<script>") && html.contains("{{ 7*7 }}"), "{html}");
        assert_eq!(html.matches("<style>").count(), 1);
        let (layout, css) = laid_out(template, &data, (1200, 630));
        assert_nothing_spills(&layout, &css);
    }
}

#[test]
fn data_are_checked_field_by_field() {
    let check = |template: &str, data: Value| problem(RENDERER.canonical_data(template, &data));
    assert!(check("nothing", json!({})).contains("article, product, quote"));
    assert!(check("article", json!([])).contains("object"));
    assert!(check("article", json!({})).contains("\"title\": is required"));
    assert!(check("article", json!({ "title": "  " })).contains("\"title\": is required"));
    assert!(check("article", json!({ "title": 1 })).contains("\"title\": must be a text, not a number"));
    assert!(check("article", json!({ "title": "x", "headline": "y" })).contains("\"headline\""));
    assert!(check("article", json!({ "title": "x".repeat(301) })).contains("301 characters, at most 300"));
    assert!(check("article", json!({ "title": "x", "accent": "red" })).contains("\"accent\""));
    assert!(check("article", json!({ "title": "x", "theme": "sepia" })).contains("light, dark"));
    let price = |price: Value| check("product", json!({ "name": "x", "price": price }));
    assert!(price(json!("9 EUR")).contains("\"price\": must look like"));
    assert!(price(json!({ "amount": "9.999", "currency": "EUR" })).contains("2 digits"));
    assert!(price(json!({ "amount": "-1", "currency": "EUR" })).contains("plain decimal"));
    assert!(price(json!({ "amount": "1", "currency": "euro" })).contains("ISO 4217"));
    let rating = json!({ "name": "x", "price": { "amount": 1, "currency": "EUR" }, "rating": 6 });
    assert!(check("product", rating).contains("between 0 and 5"));
}

#[test]
fn canonical_data_are_complete_and_stable() {
    let data = json!({
        "name": " Lamp\u{0} ", "accent": "#ABC", "image": null, "brand": "",
        "price": { "amount": 1299.5, "currency": "EUR" }, "old_price": { "currency": "JPY", "amount": "0070" },
    });
    let canonical = RENDERER.canonical_data("product", &data).unwrap();
    let expected = json!({
        "name": "Lamp", "accent": "#aabbcc", "locale": "en", "theme": "light",
        "price": { "amount": "1299.50", "currency": "EUR" }, "old_price": { "amount": "70", "currency": "JPY" },
    });
    assert_eq!(canonical, expected);
    assert_eq!(RENDERER.canonical_data("product", &canonical).unwrap(), canonical);
}

#[test]
fn bad_pictures_are_refused_before_they_cost_anything() {
    let cover = |url: &str| problem(render("article", &json!({ "title": "x", "cover": url }), (600, 315)));
    assert!(cover("https://example.com/a.png").contains("upload it or inline it as a data: URL"));
    assert!(cover("file:///etc/passwd").contains("data: URL"));
    assert!(cover("data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=").contains("not supported"));
    assert!(cover(&data_url("png", b"<svg xmlns='http://www.w3.org/2000/svg'/>")).contains("broken"));
    assert!(cover("data:image/png;base64,!!!").contains("base64"));
    assert!(cover(&data_url("png", &[0; 64])).contains("broken"));
    // 60 000 x 60 000, of which nothing follows the header.
    let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    huge.extend([60_000_u32.to_be_bytes(), 60_000_u32.to_be_bytes()].concat());
    huge.extend(b"\x08\x06\0\0\0\0\0\0\0");
    assert!(cover(&data_url("png", &huge)).contains("60000x60000"));
    let mut cut = base64_simd::STANDARD.decode_to_vec(&png(64, 64)["data:image/png;base64,".len()..]).unwrap();
    cut.truncate(cut.len() / 2);
    assert!(cover(&data_url("png", &cut)).starts_with("field \"cover\""));
    let large = "A".repeat(16 << 20);
    assert!(cover(&format!("data:image/png;base64,{large}")).contains("larger than"));
    render("article", &json!({ "title": "x", "cover": png(64, 64) }), (600, 315)).unwrap();
}

#[test]
fn sizes_are_bounded() {
    let data = sample("quote", json!({}));
    assert!(problem(render("quote", &data, (10, 10))).contains("size 10x10"));
    assert!(problem(render("quote", &data, (100_000, 630))).contains("3200x3200"));
    let job = RenderJob { size: Some((3000, 3000)), scale: 4.0, ..RenderJob::new("quote", &data) };
    assert!(problem(RENDERER.render(&job)).contains("pixels"));
}

#[test]
fn a_panic_costs_one_picture() {
    let fault = guarded::<()>(|| panic!("glyph {}", 7)).unwrap_err();
    assert_eq!(fault, RenderError::Panicked("glyph 7".to_owned()));
    assert!(!fault.is_callers_fault());
}

#[test]
fn money_is_written_as_its_readers_write_it() {
    let cases = [
        ("1299.50", "EUR", "en", "€1,299.50"),
        ("1299.50", "EUR", "de", "1.299,50\u{a0}€"),
        ("1299.50", "EUR", "fr", "1\u{202f}299,50\u{a0}€"),
        ("1299.50", "EUR", "es", "1299,50\u{a0}€"),
        ("1299.50", "CHF", "de-CH", "CHF\u{a0}1’299.50"),
        ("1299.50", "PLN", "pl", "1299,50\u{a0}zł"),
        ("129999.00", "INR", "hi", "₹1,29,999.00"),
        ("12999", "JPY", "ja", "¥12,999"),
        ("1299.50", "BRL", "pt-BR", "R$\u{a0}1.299,50"),
        ("5.00", "CAD", "en-CA", "$5.00"),
        ("5.00", "CAD", "en", "CA$5.00"),
        ("5.00", "CHF", "en", "CHF\u{a0}5.00"),
    ];
    for (amount, currency, locale, written) in cases {
        assert_eq!(money::format(amount, currency, locale), written, "{locale}");
    }
    assert_eq!(money::discount("169.00", "129.00"), Some(23));
    assert_eq!(money::discount("100.00", "100.00"), None);
    assert_eq!(money::discount("0.00", "0.00"), None);
    assert_eq!(money::discount("10.00", "12.00"), None);
}

#[test]
fn derived_colours_can_be_read() {
    use color::Rgb;
    for accent in ["#0b6e69", "#facc15", "#000000", "#ffffff", "#ff0000", "#0000ff", "#777777", "#39ff14"] {
        let accent = Rgb::parse(accent).unwrap();
        assert!(accent.contrast(accent.ink()) >= 4.5, "{accent}");
        for ground in [accent.tone(0.17, 0.3), accent.tone(0.985, 0.1)] {
            assert!(accent.readable_on(ground, 4.5).contrast(ground) >= 4.5, "{accent} on {ground}");
        }
    }
    assert_eq!(Rgb::parse("#12345g"), None);
    assert_eq!(Rgb::parse("#+12345"), None);
}

#[test]
fn names_become_initials() {
    assert_eq!(filters::initials("Ines Marchetti"), "IM");
    assert_eq!(filters::initials("ß von der (Au)"), "SSA");
    assert_eq!(filters::initials("  "), "");
    assert_eq!(filters::direction("12 — שלום world"), "rtl");
    assert_eq!(filters::direction("42"), "ltr");
}

/// A folder that is gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mimeo-render-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn template(&self, id: &str, manifest: &str, html: &str) {
        fs::create_dir_all(self.0.join(id)).unwrap();
        fs::write(self.0.join(id).join("template.toml"), manifest).unwrap();
        fs::write(self.0.join(id).join("template.html"), html).unwrap();
    }

    fn load(&self) -> Result<Renderer, TemplateFault> {
        Renderer::new(RenderOptions { templates_dir: Some(self.0.clone()), ..RenderOptions::default() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MANIFEST: &str =
    "title = 'Own'\nwidth = 400\nheight = 200\n[[field]]\nname = 'text'\nkind = 'text'\nexample = 'x'\n";

#[test]
fn own_templates_join_and_replace_the_built_in_ones() {
    let folder = Folder::new("own");
    folder.template("banner", MANIFEST, "<p>{{ text }}</p>");
    folder.template("quote", MANIFEST, "<p>{{ text }}</p>");
    let own = folder.load().unwrap();
    assert_eq!(own.templates().count(), 4);
    assert_eq!(own.template("quote").unwrap().title, "Own");
    assert_ne!(own.template("quote").unwrap().version, RENDERER.template("quote").unwrap().version);
    let drawn = own.render(&RenderJob::new("banner", &json!({ "text": "hello" }))).unwrap();
    assert_eq!((drawn.width, drawn.height), (400, 200));
}

#[test]
fn faults_of_own_templates_name_file_and_line() {
    let cases = [
        ("syntax", MANIFEST.to_owned(), "<p>\n{% if %}</p>", "template.html:2: "),
        ("name", MANIFEST.to_owned(), "<p>\n\n{{ texd }}</p>", "template.html:3: "),
        ("css", MANIFEST.to_owned(), "<style>p { color: </style><p>x</p>", "template.html"),
        ("toml", format!("{MANIFEST}kind = 'x'\n"), "", "template.toml:8: "),
        ("kind", MANIFEST.replace("'text'\nex", "'colour'\nex"), "", "template.toml:6: "),
        ("twice", format!("{MANIFEST}[[field]]\nname = \"text\"\nkind = 'text'\n"), "", "template.toml:9: "),
        ("fit", format!("{MANIFEST}[[fit]]\nid = 'gone'\nmax = 9\nmin = 4\nlines = 1\n"), "<p>x</p>", "gone"),
        ("example", MANIFEST.replace("example = 'x'", "example = 7"), "<p>x</p>", "must be a text"),
    ];
    for (name, manifest, html, expected) in cases {
        let folder = Folder::new(name);
        folder.template("own", &manifest, html);
        let fault = folder.load().err().unwrap_or_else(|| panic!("{name} loads")).to_string();
        assert!(fault.contains(expected) && fault.contains("own"), "{name}: {fault}");
    }
    let missing = RenderOptions { templates_dir: Some("/nowhere/at/all".into()), ..RenderOptions::default() };
    assert!(Renderer::new(missing).err().unwrap().to_string().contains("/nowhere/at/all"));
}

#[test]
fn a_renderer_is_shared_between_threads() {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    shared(&*RENDERER);
}
