//! Imports flow one way. The gateway and the engine under it are two crates and one order of rooms.

use std::collections::BTreeSet;
use std::path::Path;

/// From the edges inward. A room may use those after it, and none before it. Rooms in one group may use
/// each other only as far as the exceptions say.
const LAYERS: &[&[&str]] = &[
    &["app", "duties"],
    &["http", "cli"],
    &["pipeline"],
    &["attempt"],
    &["cache", "flight", "route", "ledger"],
    &["quality", "prices", "classify"],
    &["providers", "alerts"],
    &["pricing", "store", "media", "render", "shared"],
    &["net"],
    &["config", "error", "failpoint", "telemetry"],
    &["settings"],
    &["clock", "secret"],
    &["domain"],
];

/// `cli` starts the gateway, so it must see the wiring; the wiring sees everything.
const EXCEPTIONS: &[(&str, &str)] = &[("cli", "app"), ("cli", "http")];

fn layer(room: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&room)).unwrap_or_else(|| {
        panic!("the room `{room}` has no place in tests/it/layers.rs: decide where it belongs, and say so in ARCHITECTURE.md")
    })
}

fn sources(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn files() -> Vec<(String, String, String)> {
    let crates = ["../mimeo/src", "../engine/src"].map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let of = |root: &Path| {
        let mut paths = Vec::new();
        sources(root, &mut paths);
        let read = |path: std::path::PathBuf| {
            let relative = path.strip_prefix(root).expect("inside").to_string_lossy().into_owned();
            let room = relative.split(['/', '.']).next().expect("a name").to_owned();
            (relative, room, std::fs::read_to_string(&path).expect("text"))
        };
        paths.into_iter().map(read).collect::<Vec<_>>()
    };
    crates.iter().flat_map(|root| of(root)).collect()
}

/// The rooms that a file names with `crate::room`, wherever it does.
fn uses(text: &str) -> BTreeSet<&str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next())
        .filter(|room| !room.is_empty())
        .collect()
}

#[test]
fn imports_flow_one_way() {
    for (file, room, text) in files() {
        if matches!(room.as_str(), "lib" | "main") {
            continue;
        }
        for used in uses(&text) {
            if used == room || EXCEPTIONS.contains(&(room.as_str(), used)) || room == "app" {
                continue;
            }
            assert!(
                layer(&room) < layer(used) || (layer(&room) == layer(used) && room == "duties"),
                "{file} uses crate::{used}: imports flow one way, see ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn no_file_is_too_long_and_no_room_is_a_dump() {
    for (file, _, text) in files() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{file} has {lines} lines: cut it where it has two subjects");
        for word in ["util", "utils", "common", "helpers", "misc", "types"] {
            assert!(
                !file.split(['/', '.']).any(|part| part == word),
                "{file}: `{word}` says nothing; name what it does"
            );
        }
    }
}

/// A provider's name belongs in its record.
#[test]
fn no_provider_is_named_in_code() {
    let names = [
        "\"openai\"",
        "\"bfl\"",
        "\"fal\"",
        "\"replicate\"",
        "\"stability\"",
        "\"ideogram\"",
        "\"recraft\"",
        "\"gpt-image",
    ];
    for (file, room, text) in files() {
        // The embedded demo and tests speak of providers; the engine does not.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if file.contains("test") || room == "cli" {
            continue;
        }
        for name in names {
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                assert!(!line.contains(name), "{file} names a provider: {line}");
            }
        }
    }
}

/// Every failpoint of the sources is in the table, once, and every one of the table is in the sources.
#[test]
fn failpoints_are_where_the_table_says() {
    let mut placed: Vec<String> = Vec::new();
    for (file, _, text) in files() {
        if file == "failpoint.rs" {
            continue;
        }
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let names = code.split("failpoint!(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
        placed.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    placed.sort();
    let mut table: Vec<&str> = mimeo::failpoint::NAMES.to_vec();
    table.sort_unstable();
    assert_eq!(placed, table, "left: the sources, right: `NAMES` in failpoint.rs");
}
