//! Finds the files of an import on this machine and reads them as they are; what is in them is the importer's business.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proto::auth::v1::ImportFile;

use super::input::MAX_FILE_BYTES;

/// Where OpenClaw's seed comes from.
const SEED_VARIABLE: &str = "OPENCLAW_AUTH_PROFILE_SECRET_KEY";
/// Databases of OpenClaw 2026.9; their presence is reported, their content is not read.
const DATABASE: &str = "state/openclaw.sqlite";
/// Most bytes of one import; more is no state directory, but somebody's disk.
const MAX_IMPORT_BYTES: usize = 32 * 1024 * 1024;

/// The files of an import.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The files, under the names by which errors call them.
    pub files: Vec<ImportFile>,
    /// Seed of the sidecars' key, if one was found; its name says where.
    pub seed: Option<ImportFile>,
    /// The places in which a seed was looked for, in order, up to the one that had it.
    pub looked_for_seed: Vec<String>,
    /// The directory or file that was read.
    pub root: PathBuf,
}

/// Files that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Neither a path nor the environment says where to look.
    #[error("{0} is not given and HOME is not set; name the path")]
    NoHome(&'static str),
    /// There is nothing at the path.
    #[error("{0} does not exist; {1}")]
    Missing(PathBuf, &'static str),
    /// It is there and cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    /// It is no regular file.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// It is no directory.
    #[error("{0} is not a directory; name OpenClaw's state directory")]
    NotADirectory(PathBuf),
    /// It is too large to be what it should be.
    #[error("{0} has {1} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge(PathBuf, u64),
    /// All of it together is too large.
    #[error("{0} holds more than {MAX_IMPORT_BYTES} bytes of profiles: it is no state directory of OpenClaw's")]
    TooMuch(PathBuf),
    /// The named file of the seed is empty.
    #[error("{0} is empty; it should hold the seed of OpenClaw's sidecars")]
    EmptySeed(PathBuf),
    /// No file of a login is there.
    #[error(
        "{0} holds no agents/*/agent/auth-profiles.json: it is no OpenClaw state directory, or nobody has logged in \
         there; name another, or use `switchboard login codex`"
    )]
    NoProfiles(PathBuf),
}

/// Reads Codex CLI's `auth.json`: the file or directory given, else that of `$CODEX_HOME`, else that of `~/.codex`.
///
/// # Errors
///
/// Names the file and why it cannot be read.
pub fn collect_codex(path: Option<&Path>) -> Result<Collected, CollectError> {
    codex(path, &|name| std::env::var_os(name))
}

/// As [`collect_codex`], for an export: there need not be a file yet.
///
/// # Errors
///
/// Names the file and why it cannot be read.
pub fn collect_codex_for_export(path: Option<&Path>) -> Result<Collected, CollectError> {
    let file = auth_json(path, &|name| std::env::var_os(name))?;
    let content = read(&file)?;
    let files = content.map(|content| ImportFile { name: file.display().to_string(), content: content.into() });
    Ok(Collected { files: files.into_iter().collect(), seed: None, looked_for_seed: Vec::new(), root: file })
}

/// Where Codex CLI's login is, or would be. A path that is named and does not exist is a directory, as `CODEX_HOME` is
/// one, unless its name ends in `.json`.
fn auth_json(path: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf, CollectError> {
    let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = match path {
        Some(path) => path.to_owned(),
        None => match set("CODEX_HOME") {
            Some(home) => home,
            None => set("HOME").ok_or(CollectError::NoHome("CODEX_HOME"))?.join(".codex"),
        },
    };
    let exists = path.symlink_metadata().is_ok() && !path.is_dir();
    let is_file = exists || path.extension().is_some_and(|extension| extension == "json");
    let says_dir = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    Ok(if path.is_dir() || says_dir || !is_file { path.join("auth.json") } else { path })
}

pub(super) fn codex(path: Option<&Path>, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Collected, CollectError> {
    let file = auth_json(path, env)?;
    let content = read(&file)?.ok_or_else(|| {
        CollectError::Missing(
            file.clone(),
            "name another path, or run `codex login` first; where Codex CLI keeps its login in the keyring, \
             `switchboard login codex` makes one of Switchboard's own",
        )
    })?;
    let files = vec![ImportFile { name: file.display().to_string(), content: content.into() }];
    Ok(Collected { files, seed: None, looked_for_seed: Vec::new(), root: file })
}

/// Reads OpenClaw's state directory: the one given, else `$OPENCLAW_STATE_DIR`, else `~/.openclaw`; and the seed of its
/// sidecars, from the file given or from where OpenClaw keeps it.
///
/// # Errors
///
/// Names the file and why it cannot be read. A seed that is nowhere is no error: not every profile needs it.
pub fn collect_openclaw(
    state_dir: Option<&Path>,
    secret_key_file: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Collected, CollectError> {
    let set = |name| env(name).filter(|value| !value.trim().is_empty());
    let home = set("HOME").map(PathBuf::from);
    let root = state_root(state_dir, &set, home.as_deref())?;
    let (seed, looked_for_seed) = seed_of(secret_key_file, &set, home.as_deref())?;
    let config = set("OPENCLAW_CONFIG_PATH").filter(|_| state_dir.is_none()).map(PathBuf::from);
    let files = state_files(&root, config)?;
    if !has_profiles(&files) {
        return Err(CollectError::NoProfiles(root));
    }
    Ok(Collected { files, seed, looked_for_seed, root })
}

/// As [`collect_openclaw`], for an export: the directory need not hold profiles, and its configuration is not asked.
///
/// # Errors
///
/// As [`collect_openclaw`].
pub fn collect_openclaw_for_export(
    state_dir: Option<&Path>,
    secret_key_file: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Collected, CollectError> {
    let set = |name| env(name).filter(|value| !value.trim().is_empty());
    let home = set("HOME").map(PathBuf::from);
    let root = state_root(state_dir, &set, home.as_deref())?;
    let (seed, looked_for_seed) = seed_of(secret_key_file, &set, home.as_deref())?;
    let mut files = state_files(&root, None)?;
    files.retain(|file| file.name != "openclaw.json");
    Ok(Collected { files, seed, looked_for_seed, root })
}

fn state_root(
    state_dir: Option<&Path>,
    set: &dyn Fn(&'static str) -> Option<String>,
    home: Option<&Path>,
) -> Result<PathBuf, CollectError> {
    let root = match state_dir.map(Path::to_owned).or_else(|| set("OPENCLAW_STATE_DIR").map(PathBuf::from)) {
        Some(root) => root,
        None => home.ok_or(CollectError::NoHome("OPENCLAW_STATE_DIR"))?.join(".openclaw"),
    };
    match fs::metadata(&root) {
        Ok(meta) if !meta.is_dir() => Err(CollectError::NotADirectory(root)),
        Ok(_) => Ok(root),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(CollectError::Missing(root, "name OpenClaw's state directory"))
        }
        Err(e) => Err(CollectError::Unreadable(root, e)),
    }
}

/// The seed, and where it was looked for.
fn seed_of(
    secret_key_file: Option<&Path>,
    set: &dyn Fn(&'static str) -> Option<String>,
    home: Option<&Path>,
) -> Result<(Option<ImportFile>, Vec<String>), CollectError> {
    let mut looked = Vec::new();
    let seed = match secret_key_file {
        Some(file) => Some(named_seed(file, &mut looked)?),
        None => seed(set, home, &mut looked)?,
    };
    Ok((seed, looked))
}

/// True if a login could be in there.
fn has_profiles(files: &[ImportFile]) -> bool {
    files.iter().any(|file| file.name.ends_with("auth-profiles.json") || file.name.ends_with(".sqlite"))
}

fn state_files(root: &Path, config: Option<PathBuf>) -> Result<Vec<ImportFile>, CollectError> {
    let mut names = Vec::new();
    for agent in entries(&root.join("agents"))? {
        for file in ["auth-profiles.json", "auth-state.json"] {
            names.push(format!("agents/{agent}/agent/{file}"));
        }
    }
    let mut files = Vec::new();
    for name in names {
        files.extend(read(&root.join(&name))?.map(|content| ImportFile { name, content: content.into() }));
    }
    let mut databases = vec![DATABASE.to_owned()];
    for agent in entries(&root.join("agents"))? {
        databases.push(format!("agents/{agent}/agent/openclaw-agent.sqlite"));
    }
    databases.retain(|name| root.join(name).exists());
    // Their names alone: the importer says what they mean.
    files.extend(databases.into_iter().map(|name| ImportFile { name, content: Vec::new().into() }));
    for sidecar in entries(&root.join("credentials/auth-profiles"))? {
        if !sidecar.ends_with(".json") {
            continue;
        }
        let name = format!("credentials/auth-profiles/{sidecar}");
        files.extend(read(&root.join(&name))?.map(|content| ImportFile { name, content: content.into() }));
    }
    let config = config.unwrap_or_else(|| root.join("openclaw.json"));
    files
        .extend(read(&config)?.map(|content| ImportFile { name: "openclaw.json".to_owned(), content: content.into() }));
    if files.iter().map(|file| file.content.len()).sum::<usize>() > MAX_IMPORT_BYTES {
        return Err(CollectError::TooMuch(root.to_owned()));
    }
    Ok(files)
}

/// Names in a directory, sorted; none if it does not exist. A name that is not UTF-8 is none of OpenClaw's.
fn entries(dir: &Path) -> Result<Vec<String>, CollectError> {
    let unreadable = |e| CollectError::Unreadable(dir.to_owned(), e);
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut names = Vec::new();
    for entry in listing {
        names.extend(entry.map_err(unreadable)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// A file's bytes; `None` if there is none. Symbolic links are followed.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CollectError> {
    let absent = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if absent(&e) => return Ok(None),
        Err(e) => return Err(CollectError::Unreadable(path.to_owned(), e)),
    };
    if !meta.is_file() {
        return Err(CollectError::NotAFile(path.to_owned()));
    }
    if meta.len() > MAX_FILE_BYTES as u64 {
        return Err(CollectError::TooLarge(path.to_owned(), meta.len()));
    }
    fs::read(path).map(Some).map_err(|e| CollectError::Unreadable(path.to_owned(), e))
}

fn named_seed(file: &Path, looked: &mut Vec<String>) -> Result<ImportFile, CollectError> {
    looked.push(file.display().to_string());
    let content = read(file)?.ok_or_else(|| CollectError::Missing(file.to_owned(), "check --secret-key-file"))?;
    if content.trim_ascii().is_empty() {
        return Err(CollectError::EmptySeed(file.to_owned()));
    }
    Ok(ImportFile { name: file.display().to_string(), content: content.into() })
}

/// The seed from where OpenClaw looks for it, in its order.
fn seed(
    set: &dyn Fn(&'static str) -> Option<String>,
    home: Option<&Path>,
    looked: &mut Vec<String>,
) -> Result<Option<ImportFile>, CollectError> {
    let place = format!("environment variable {SEED_VARIABLE}");
    looked.push(place.clone());
    if let Some(seed) = set(SEED_VARIABLE) {
        return Ok(Some(ImportFile { name: place, content: seed.into_bytes().into() }));
    }
    let xdg = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let dirs = [
        xdg.map(|dir| dir.join("openclaw")),
        home.map(|home| home.join(".config/openclaw")),
        home.map(|home| home.join(".openclaw-auth-profile-secrets")),
    ];
    let mut files: Vec<PathBuf> = dirs.into_iter().flatten().map(|dir| dir.join("auth-profile-secret-key")).collect();
    files.dedup();
    for file in files {
        let place = file.display().to_string();
        looked.push(place.clone());
        if let Some(content) = read(&file)?.filter(|content| !content.trim_ascii().is_empty()) {
            return Ok(Some(ImportFile { name: place, content: content.into() }));
        }
    }
    Ok(None)
}
