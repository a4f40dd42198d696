//! The generated code is what `proto/` says. `UPDATE_GENERATED=1` writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("proto/ is readable") {
        let path = entry.expect("entry is readable").path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
}

/// Messages whose `Debug` is written by hand, because they carry secrets.
const NO_DEBUG: [&str; 7] = [
    "switchboard.auth.v1.ImportFile",
    "switchboard.auth.v1.CreateKeyResponse",
    "switchboard.auth.v1.RotateKeyResponse",
    "switchboard.auth.v1.CompleteLoginRequest",
    "switchboard.auth.v1.AddApiKeyRequest",
    "switchboard.auth.v1.BackupRequest",
    "switchboard.auth.v1.RestoreRequest",
];

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut protos = Vec::new();
    files_below(&root, &mut protos);
    protos.sort();
    let mut compiler = protox::Compiler::new([&root]).expect("proto/ is an include path");
    compiler.include_source_info(true).include_imports(true).open_files(&protos).expect("proto/ compiles");
    let with_comments = compiler.file_descriptor_set();
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    config.skip_debug(NO_DEBUG);
    tonic_prost_build::configure()
        .out_dir(into)
        .codec_path("crate::codec::MessageCodec")
        .compile_fds_with_config(with_comments, config)
        .expect("code is generated");
    fs::write(into.join("switchboard.binpb"), compiler.encode_file_descriptor_set()).expect("descriptors are written");
}

#[test]
fn generated_code_is_fresh() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        generate(&checked_in);
        return;
    }
    let made = tempfile::tempdir().expect("a temporary directory");
    generate(made.path());
    let mut names: Vec<_> =
        fs::read_dir(made.path()).expect("readable").map(|e| e.expect("entry").file_name()).collect();
    names.sort();
    let mut old: Vec<_> = fs::read_dir(&checked_in).expect("readable").map(|e| e.expect("entry").file_name()).collect();
    old.sort();
    assert_eq!(names, old, "files of src/gen; run UPDATE_GENERATED=1 cargo test -p proto");
    for name in names {
        let same =
            fs::read(made.path().join(&name)).expect("made") == fs::read(checked_in.join(&name)).expect("checked in");
        assert!(same, "src/gen/{} is stale; run UPDATE_GENERATED=1 cargo test -p proto", name.display());
    }
}
