//! From a configuration and a data directory to a service: keys first, then the database, then what stands on it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use config::Config;
use domain::Clock;
use secrecy::ExposeSecret;
use service_kit::{DataDir, KeyFileError, SealKey, SecretKey, parse_key};
use zeroize::Zeroizing;

use crate::error::BuildError;
use crate::identity::Identity;
use crate::keys::{KeyRequest, mint};
use crate::service::AuthService;
use crate::store::{self, Store};

/// Holds the database key instead of a file: 64 hex digits. It wins over the file.
const KEY_VARIABLE: &str = "SWITCHBOARD_DATABASE_KEY";
const AGENT_KEY_FILE: &str = "agent.key";

/// What auth-svc is built from.
#[derive(Debug)]
pub struct AuthOptions<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The data directory; the caller holds its lock.
    pub data_dir: &'a DataDir,
    /// The key that transport-svc opens access tokens with. `None`: read from `[auth] seal_key_file`, else from
    /// `seal.key` in the data directory.
    pub seal_key: Option<SealKey>,
    /// Make what a first start needs if there is no database yet: its key, the database, the seal key where none is
    /// given, and the first agent key. If there is a database, nothing is made.
    pub create: bool,
    /// The time.
    pub clock: Clock,
}

/// Where the database key comes from.
enum KeySource {
    Environment(SecretKey),
    File(PathBuf),
}

/// Builds the service: opens the database, or makes it at first start. Listens to nothing.
pub async fn build(options: AuthOptions<'_>) -> Result<AuthService, BuildError> {
    let variable = std::env::var(KEY_VARIABLE).ok().map(Zeroizing::new);
    build_with(options, variable).await
}

/// [`build`], with the content of the environment variable as a value.
async fn build_with(options: AuthOptions<'_>, variable: Option<Zeroizing<String>>) -> Result<AuthService, BuildError> {
    let AuthOptions { config, data_dir, clock, .. } = &options;
    // What is wrong with the settings is found before anything is made.
    let identity = Identity::new(config)?;
    let path = database_path(config, data_dir)?;
    let key_source = match variable {
        Some(text) => KeySource::Environment(parse_key(&text).ok_or(BuildError::EnvironmentKey(KEY_VARIABLE))?),
        None => KeySource::File(config.auth.key_file.clone().unwrap_or_else(|| data_dir.file("database.key"))),
    };
    let first_start = match path.try_exists() {
        Ok(true) => false,
        Ok(false) if options.create => true,
        Ok(false) => return Err(BuildError::Absent(path.display().to_string())),
        Err(error) => {
            return Err(BuildError::Unreadable { path: path.display().to_string(), cause: error.to_string() });
        }
    };
    let key = database_key(&key_source, &path, first_start)?;
    let seal_key = seal_key(&options, &key, first_start)?;
    let agent_key = data_dir.file(AGENT_KEY_FILE);
    let store = if first_start {
        let fill = async |store: &Store| first_agent_key(store, &agent_key).await;
        store::create(&path, key, clock.clone(), fill).await?
    } else {
        store::open(&path, key, &key_source.describe(), clock.clone()).await?
    };
    // A database that can be read and not written must not be found out by the first refresh.
    store.check().await.map_err(|error| BuildError::Open {
        path: path.display().to_string(),
        cause: match error {
            store::StoreError::Database { cause, .. } => cause,
            other => other.to_string(),
        },
    })?;
    Ok(AuthService::new(store, identity, seal_key, config, clock.clone(), first_start.then_some(agent_key)))
}

impl KeySource {
    fn describe(&self) -> String {
        match self {
            Self::Environment(_) => format!("environment variable {KEY_VARIABLE}"),
            Self::File(file) => format!("key file {}", file.display()),
        }
    }
}

fn database_path(config: &Config, data_dir: &DataDir) -> Result<PathBuf, BuildError> {
    let Some(setting) = &config.auth.database else { return Ok(data_dir.file("switchboard.db")) };
    let path = setting.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    match path {
        Some(path) if !path.is_empty() && !path.contains('?') => Ok(PathBuf::from(path)),
        _ => Err(BuildError::Setting {
            key: "auth.database",
            value: setting.clone(),
            cause: "\"sqlite:\" and the path of a file are needed".to_owned(),
        }),
    }
}

fn database_key(source: &KeySource, database: &Path, first_start: bool) -> Result<SecretKey, BuildError> {
    let file = match source {
        KeySource::Environment(key) => return Ok(key.clone()),
        KeySource::File(file) => file,
    };
    match SecretKey::read(file) {
        // A key that was put there before the first start is used.
        Err(KeyFileError::Missing(_)) if first_start => {
            let key = SecretKey::generate()?;
            key.write_new(file)?;
            Ok(key)
        }
        Err(KeyFileError::Missing(key_file)) => {
            Err(BuildError::NoKey { database: database.display().to_string(), key_file, variable: KEY_VARIABLE })
        }
        read => Ok(read?),
    }
}

fn seal_key(options: &AuthOptions<'_>, database_key: &SecretKey, first_start: bool) -> Result<SealKey, BuildError> {
    if let Some(key) = &options.seal_key {
        return Ok(key.clone());
    }
    let configured = options.config.auth.seal_key_file.clone();
    let file = configured.unwrap_or_else(|| options.data_dir.file("seal.key"));
    let key = match SecretKey::read(&file) {
        Err(KeyFileError::Missing(_)) if first_start => {
            let key = SecretKey::generate()?;
            key.write_new(&file)?;
            key
        }
        read => read?,
    };
    if key.bytes() == database_key.bytes() {
        return Err(BuildError::SealKeyIsDatabaseKey(file.display().to_string()));
    }
    Ok(key.into())
}

/// Makes the key of agent `main`. Its file is written before the database is in place: a start that is cut off between
/// the two makes both anew.
async fn first_agent_key(store: &Store, file: &Path) -> Result<(), BuildError> {
    let failed = |cause: String| BuildError::AgentKeyFile { path: file.display().to_string(), cause };
    let request = KeyRequest { name: "default".to_owned(), agent: "main".to_owned(), ..KeyRequest::default() };
    let (key, _) = mint(store, request).await.map_err(|failure| failed(failure.message))?;
    let unfinished = file.with_extension("key.new");
    let write = || {
        // A start that was cut off may have left it.
        let _ = std::fs::remove_file(&unfinished);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        writeln!(out, "{}", key.expose_secret())?;
        out.sync_all()?;
        std::fs::rename(&unfinished, file)
    };
    write().map_err(|error: std::io::Error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_variable_wins_over_the_file_and_leaves_none() {
        let root = tempfile::tempdir().expect("tempdir");
        let data_dir = DataDir::open(&root.path().join("data"), true).expect("made");
        let config = Config::default();
        let start = async |text: Option<&str>| {
            let options = AuthOptions {
                config: &config,
                data_dir: &data_dir,
                seal_key: Some(SealKey::generate().expect("random")),
                create: true,
                clock: Clock::system(),
            };
            let variable = text.map(|text| Zeroizing::new(text.to_owned()));
            build_with(options, variable).await.map(|_| ()).map_err(|e| (e.to_string(), e.is_configuration()))
        };
        let key = "0123456789abcdef".repeat(4);
        let (malformed, configuration) = start(Some("secret-but-no-key")).await.expect_err("malformed");
        assert!(configuration && malformed.contains(KEY_VARIABLE) && !malformed.contains("secret"), "{malformed}");
        start(Some(&key)).await.expect("made");
        assert!(!data_dir.file("database.key").exists());
        start(Some(&key)).await.expect("opened");
        let (missing, _) = start(None).await.expect_err("no key");
        assert!(missing.contains(KEY_VARIABLE), "{missing}");
        let (wrong, _) = start(Some(&"ab".repeat(32))).await.expect_err("another key");
        assert!(wrong.contains(KEY_VARIABLE) && wrong.contains("was encrypted with key"), "{wrong}");
    }
}
