//! Files on disk.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::import::collect::{CollectError, Collected, codex, collect_codex_for_export, collect_openclaw};

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    fs::write(path, content).expect("written");
}

fn names(collected: &Collected) -> Vec<&str> {
    collected.files.iter().map(|file| file.name.as_str()).collect()
}

#[test]
fn auth_json_is_where_codex_cli_has_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path();
    write(&root.join("home/.codex/auth.json"), "of home");
    write(&root.join("codex-home/auth.json"), "of CODEX_HOME");
    write(&root.join("elsewhere.json"), "elsewhere");
    let read = |path: Option<&Path>, codex_home: Option<&str>| {
        let env = |name: &str| match name {
            "HOME" => Some(root.join("home").into_os_string()),
            "CODEX_HOME" => {
                codex_home.map(|name| if name.is_empty() { OsString::new() } else { root.join(name).into() })
            }
            _ => None,
        };
        codex(path, &env).map(|collected| String::from_utf8(collected.files[0].content.to_vec()).expect("text"))
    };
    assert_eq!(read(None, None).expect("read"), "of home");
    assert_eq!(read(None, Some("")).expect("read"), "of home");
    assert_eq!(read(None, Some("codex-home")).expect("read"), "of CODEX_HOME");
    assert_eq!(read(Some(&root.join("codex-home")), None).expect("read"), "of CODEX_HOME");
    assert_eq!(read(Some(&root.join("elsewhere.json")), Some("codex-home")).expect("read"), "elsewhere");
    let missing = read(None, Some("nowhere")).expect_err("missing").to_string();
    assert!(missing.contains("nowhere") && missing.contains("switchboard login codex"), "{missing}");
    assert!(matches!(codex(None, &|_| None), Err(CollectError::NoHome(_))));
    fs::File::create(root.join("large")).expect("made").set_len(5 << 20).expect("long");
    assert!(matches!(read(Some(&root.join("large")), None), Err(CollectError::TooLarge(_, 5_242_880))));
    fs::create_dir_all(root.join("odd/auth.json")).expect("made");
    assert!(matches!(read(Some(&root.join("odd")), None), Err(CollectError::NotAFile(_))));
}

#[test]
fn a_state_directory_is_read_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path().join("state");
    write(&root.join("agents/main/agent/auth-profiles.json"), "{}");
    write(&root.join("agents/main/agent/auth-state.json"), "{}");
    write(&root.join("agents/main/sessions/long.jsonl"), "not read");
    write(&dir.path().join("real.json"), "linked");
    fs::create_dir_all(root.join("agents/work/agent")).expect("made");
    symlink(dir.path().join("real.json"), root.join("agents/work/agent/auth-profiles.json")).expect("linked");
    write(&root.join("credentials/auth-profiles/00.json"), "{}");
    write(&root.join("credentials/auth-profiles/00.json.bak"), "not read");
    write(&root.join("credentials/other.json"), "not read");
    write(&root.join("state/openclaw.sqlite"), "not read");
    write(&root.join("openclaw.json"), "{}");
    let expected = [
        "agents/main/agent/auth-profiles.json",
        "agents/main/agent/auth-state.json",
        "agents/work/agent/auth-profiles.json",
        "state/openclaw.sqlite",
        "credentials/auth-profiles/00.json",
        "openclaw.json",
    ];
    let by_path = collect_openclaw(Some(&root), None, &|_| None).expect("collected");
    assert_eq!(names(&by_path), expected);
    assert_eq!(&by_path.files[2].content[..], b"linked");
    assert!(by_path.files[3].content.is_empty());
    let variable = root.display().to_string();
    let by_variable = |name: &str| (name == "OPENCLAW_STATE_DIR").then(|| variable.clone());
    assert_eq!(names(&collect_openclaw(None, None, &by_variable).expect("collected")), expected);
    let home = dir.path().display().to_string();
    fs::rename(&root, dir.path().join(".openclaw")).expect("moved");
    let by_home = |name: &str| (name == "HOME").then(|| home.clone());
    assert_eq!(names(&collect_openclaw(None, None, &by_home).expect("collected")), expected);

    assert!(matches!(collect_openclaw(None, None, &|_| None), Err(CollectError::NoHome(_))));
    assert!(matches!(collect_openclaw(Some(&root), None, &|_| None), Err(CollectError::Missing(..))));
    let file = dir.path().join("real.json");
    assert!(matches!(collect_openclaw(Some(&file), None, &|_| None), Err(CollectError::NotADirectory(_))));
    let empty = tempfile::tempdir().expect("tempdir");
    assert!(matches!(collect_openclaw(Some(empty.path()), None, &|_| None), Err(CollectError::NoProfiles(_))));
}

#[test]
fn the_seed_is_looked_for_in_openclaws_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path();
    write(&root.join("state/agents/main/agent/auth-profiles.json"), "{}");
    let key = "auth-profile-secret-key";
    let places = [
        root.join("home/.openclaw-auth-profile-secrets").join(key),
        root.join("home/.config/openclaw").join(key),
        root.join("xdg/openclaw").join(key),
    ];
    let read = |file: Option<&Path>, variable: Option<&str>| {
        let env = |name: &str| match name {
            "HOME" => Some(root.join("home").display().to_string()),
            "XDG_CONFIG_HOME" => Some(root.join("xdg").display().to_string()),
            "OPENCLAW_AUTH_PROFILE_SECRET_KEY" => variable.map(str::to_owned),
            _ => None,
        };
        collect_openclaw(Some(&root.join("state")), file, &env)
    };
    let nowhere = read(None, None).expect("collected");
    assert!(nowhere.seed.is_none());
    let looked: Vec<String> = places.iter().rev().map(|place| place.display().to_string()).collect();
    assert_eq!(nowhere.looked_for_seed[0], "environment variable OPENCLAW_AUTH_PROFILE_SECRET_KEY");
    assert_eq!(nowhere.looked_for_seed[1..], looked);
    for (at, place) in places.iter().enumerate() {
        write(place, &format!("seed {at}\n"));
        let seed = read(None, None).expect("collected").seed.expect("found");
        assert_eq!((seed.name, &seed.content[..]), (place.display().to_string(), format!("seed {at}\n").as_bytes()));
    }
    write(&places[2], " \n");
    assert_eq!(read(None, None).expect("collected").seed.expect("found").name, looked[1], "a blank file is none");
    let seed = read(None, Some("of the variable")).expect("collected").seed.expect("found");
    assert!(seed.name.contains("OPENCLAW_AUTH_PROFILE_SECRET_KEY") && !format!("{seed:?}").contains("of the variable"));
    let named = read(Some(&places[0]), Some("of the variable")).expect("collected");
    assert_eq!(named.seed.expect("found").name, places[0].display().to_string());
    assert_eq!(named.looked_for_seed.len(), 1);
    assert!(matches!(read(Some(&places[2]), None), Err(CollectError::EmptySeed(_))));
    assert!(matches!(read(Some(&root.join("none")), None), Err(CollectError::Missing(..))));
}

#[test]
fn an_export_to_codex_cli_goes_into_a_directory_unless_a_file_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let root = dir.path();
    write(&root.join("login"), "{}");
    fs::create_dir(root.join("odd.json")).expect("made");
    for (named, file) in [
        ("new", "new/auth.json"),
        ("new/", "new/auth.json"),
        ("new.json/", "new.json/auth.json"),
        ("odd.json", "odd.json/auth.json"),
        ("copy.json", "copy.json"),
        ("new/copy.json", "new/copy.json"),
        ("login", "login"),
    ] {
        let collected = collect_codex_for_export(Some(&root.join(named))).expect("read");
        assert_eq!(collected.root, root.join(file), "{named}");
    }
}
