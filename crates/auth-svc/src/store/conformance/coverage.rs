//! The suite names every method by which the rest of the crate uses the store: whoever adds one adds a case.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Methods of `Store` that no case names, each with a reason.
const WITHOUT_A_CASE: [(&str, &str); 2] = [
    ("path", "it is what an engine was opened with"),
    ("change_key_to", "cases change the key as the rest of the crate does, by `KeySource::change`"),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names of the `pub(crate)` methods in the `impl Store` and `impl Intake` blocks of a source.
fn methods(source: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in source.lines() {
        if line.starts_with("impl") {
            inside = line.starts_with("impl Store ") || line.starts_with("impl Intake<");
        }
        let declared =
            ["    pub(crate) async fn ", "    pub(crate) fn "].iter().find_map(|start| line.strip_prefix(start));
        if let Some(declared) = declared.filter(|_| inside) {
            names.extend(declared.split(['(', '<']).next().map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_method_of_the_store_has_a_case() {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut paths = Vec::new();
    sources(&store, &mut paths);
    let (suite, rest): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| path.starts_with(store.join("conformance")));
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("a source");
    let cases: String = suite.iter().filter(|path| !path.ends_with("coverage.rs")).map(read).collect();
    let methods: BTreeSet<String> = rest.iter().flat_map(|path| methods(&read(path))).collect();
    assert!(methods.len() > 40 && methods.contains("begin_refresh"), "they are found: {methods:?}");
    for (name, _) in WITHOUT_A_CASE {
        assert!(methods.contains(name), "{name} is no method any more");
    }
    let known = |name: &String| WITHOUT_A_CASE.iter().any(|(without, _)| without == name);
    let missing: Vec<_> = methods.iter().filter(|name| !known(name) && !cases.contains(&format!(".{name}("))).collect();
    assert!(missing.is_empty(), "write a case for each, or say here why there is none: {missing:?}");
}
