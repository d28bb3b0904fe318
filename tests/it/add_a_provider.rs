//! `docs/add-a-provider.md`, followed to the letter: every file is saved, every command is run, and what the page shows
//! is what they print.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{BINARY, Folder, Server, outcome};

/// The address that the page names.
const ADDRESS: &str = "127.0.0.1:9090";

/// What the page tells its reader to mend in the record.
const MENDED: [(&str, &str); 2] =
    [("details = [\"why\"]", "detail = [\"why\"]"), ("multiple = 16", "multiple_of = 16")];

struct Reader {
    folder: Folder,
    environment: BTreeMap<String, String>,
    sandbox: Option<Server>,
}

impl Reader {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.0.join(file)
    }

    fn save(&self, file: &str, text: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let address = self.sandbox.as_ref().map_or(ADDRESS, |sandbox| sandbox.url.trim_start_matches("http://"));
        std::fs::write(path, text.replace(ADDRESS, address)).expect("written");
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let own = Path::new(BINARY).parent().expect("a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        command.current_dir(&self.folder.0).env_clear().env("PATH", format!("{own}:{path}")).envs(&self.environment);
        command.args(["-c", &format!("exec {line} 2>&1")]);
        command
    }

    /// Types one line, and compares what comes with what the page shows, if it shows anything.
    fn types(&mut self, line: &str, shown: &str) {
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            self.environment.insert(name.to_owned(), value.to_owned());
            return;
        }
        if line.starts_with("mimeo sandbox") {
            // The one command that goes on. A free port stands in for the one that the page names.
            let words: Vec<&str> =
                line.split(' ').skip(1).map(|word| if word == ADDRESS { "127.0.0.1:0" } else { word }).collect();
            let mut command = Command::new(BINARY);
            command.current_dir(&self.folder.0).args(words);
            self.sandbox = Some(Server::start(command));
            return;
        }
        let (code, out, _) = outcome(self.shell(line));
        if shown.is_empty() {
            assert_eq!(code, 0, "$ {line}\n{out}");
        } else {
            assert!(is_like(&out, shown), "$ {line}\nsays\n{out}\nand the page shows\n{shown}");
            let is_fault = shown.starts_with("error: ");
            assert_eq!(code != 0, is_fault, "$ {line} ended with {code}");
        }
    }
}

/// True if `text` is `shown`, where `…` stands for anything.
fn is_like(text: &str, shown: &str) -> bool {
    let mut pieces = shown.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_as_it_stands() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/add-a-provider.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let mut reader = Reader { folder: Folder::new(), environment: BTreeMap::new(), sandbox: None };
    let (mut files, mut commands) = (0, 0);
    // Every second piece between fences is a block.
    for block in page.split("```").skip(1).step_by(2) {
        let (head, text) = block.split_once('\n').expect("a block has lines");
        match head.split_once(' ').unwrap_or((head, "")) {
            ("toml", file) => {
                reader.save(file, text);
                files += 1;
            }
            ("console", note) => {
                if note == "mend" {
                    let record = reader.path("records/acme.toml");
                    let text = std::fs::read_to_string(&record).expect("the record");
                    let mended = MENDED.iter().fold(text, |text, (from, to)| {
                        assert!(text.contains(from) && page.contains(to), "{from} → {to}");
                        text.replace(from, to)
                    });
                    std::fs::write(&record, mended).expect("written");
                }
                for typed in text.split("$ ").skip(1) {
                    let (line, shown) = typed.split_once('\n').expect("a command has a line");
                    reader.types(line, shown);
                    commands += 1;
                }
            }
            (language, _) => panic!("a block of {language} is not tested"),
        }
    }
    assert!(files >= 3 && commands >= 10, "{files} files, {commands} commands: the page has lost its blocks");
    // The schema is the one that is committed.
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/schema.json");
    let (own, committed) = (reader.path("records/schema.json"), std::fs::read_to_string(schema).expect("the schema"));
    assert_eq!(std::fs::read_to_string(own).expect("written"), committed);
}
