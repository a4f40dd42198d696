//! From a configuration and a data directory to a service: keys first, then the database, then what stands on it.

use std::path::{Path, PathBuf};

use config::Config;
use domain::Clock;
use secrecy::ExposeSecret;
use service_kit::{DataDir, KeyFileError, SealKey, SecretKey, files};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::database_key::KeySource;
use crate::diagnose::Places;
use crate::error::BuildError;
use crate::identity::Identity;
use crate::keys::{KeyRequest, mint};
use crate::service::AuthService;
use crate::store::{self, Store};

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
    /// Make what is missing: the database and its key if there is no database yet, and the seal key where none is given.
    /// Beside a database no key to it is made: it would open nothing.
    pub create: bool,
    /// Make the first agent key with the database. Not for a database that a backup is taken into: that brings its own.
    pub first_agent_key: bool,
    /// The time.
    pub clock: Clock,
}

/// Builds the service: opens the database, or makes it at first start. Listens to nothing.
pub async fn build(options: AuthOptions<'_>) -> Result<AuthService, BuildError> {
    // A write beyond a limit on the size of files is to fail like any other, and not to end the process, which may hold
    // a refreshed token that is not written yet. Once installed, the handler stays.
    let limit = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    if let Err(error) = signal(limit) {
        tracing::warn!(%error, "a limit on the size of files will end this process when it is met");
    }
    let variable = |name: &str| std::env::var(name).ok().map(Zeroizing::new);
    build_with(options, variable).await
}

/// [`build`], with the environment as a function.
async fn build_with(
    options: AuthOptions<'_>,
    variable: impl Fn(&str) -> Option<Zeroizing<String>>,
) -> Result<AuthService, BuildError> {
    let AuthOptions { config, data_dir, clock, .. } = &options;
    // What is wrong with the settings is found before anything is made.
    let identity = Identity::new(config)?;
    let path = database_path(config, data_dir)?;
    let key_file = config.auth.key_file.clone().unwrap_or_else(|| data_dir.file("database.key"));
    let key_source = KeySource::find(key_file, variable)?;
    let first_start = match path.try_exists() {
        Ok(true) => false,
        Ok(false) if options.create => true,
        Ok(false) => return Err(BuildError::Absent(path.display().to_string())),
        Err(error) => {
            return Err(BuildError::Unreadable { path: path.display().to_string(), cause: error.to_string() });
        }
    };
    // Before the key itself: another process that ends a change meanwhile moves it there.
    let next = if first_start { None } else { key_source.next()? };
    let key = key_source.key(&path, first_start)?;
    let seal_key = seal_key(&options, &key)?;
    let agent_key = data_dir.file(AGENT_KEY_FILE);
    let store = if first_start {
        let fill = async |store: &Store| match options.first_agent_key {
            true => first_agent_key(store, &agent_key).await,
            false => Ok(()),
        };
        store::create(&path, key, clock.clone(), fill).await?
    } else {
        let keys = store::Keys { current: key, next, source: key_source.describe() };
        store::open(&path, keys, clock.clone()).await?
    };
    store.keys_from(key_source.clone());
    // A database that can be read and not written must not be found out by the first refresh.
    let unusable = |error: store::StoreError| error.at_open(&path);
    store.check_open().await.map_err(unusable)?;
    // What a change of keys that was cut off has left is over now: the store has one key alone.
    store.with_key(|in_force| key_source.settle(in_force)).await.map_err(unusable)??;
    let places = Places {
        database_key: key_source.file().map(Path::to_owned),
        seal_key: options.seal_key.is_none().then(|| seal_key_file(&options)),
        agent_key: agent_key.clone(),
    };
    let first_agent_key = (first_start && options.first_agent_key).then_some(agent_key);
    Ok(AuthService::new(store, identity, seal_key, key_source, config, first_agent_key, places))
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

fn seal_key_file(options: &AuthOptions<'_>) -> PathBuf {
    options.config.auth.seal_key_file.clone().unwrap_or_else(|| options.data_dir.file("seal.key"))
}

/// Nothing lasting is encrypted with it, so one that is missing is made anew.
fn seal_key(options: &AuthOptions<'_>, database_key: &SecretKey) -> Result<SealKey, BuildError> {
    if let Some(key) = &options.seal_key {
        return Ok(key.clone());
    }
    let file = seal_key_file(options);
    let key = match SecretKey::read(&file) {
        Err(KeyFileError::Missing(_)) if options.create => {
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
    let line = Zeroizing::new(format!("{}\n", key.expose_secret()));
    files::write(file, line.as_bytes()).map_err(|error| failed(files::unwritten(file, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database_key::VARIABLE;

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
                first_agent_key: true,
                clock: Clock::system(),
            };
            let variable = |name: &str| text.filter(|_| name == VARIABLE).map(|text| Zeroizing::new(text.to_owned()));
            build_with(options, variable).await.map(|_| ()).map_err(|e| (e.to_string(), e.is_configuration()))
        };
        let key = "0123456789abcdef".repeat(4);
        let (malformed, configuration) = start(Some("secret-but-no-key")).await.expect_err("malformed");
        assert!(configuration && malformed.contains(VARIABLE) && !malformed.contains("secret"), "{malformed}");
        start(Some(&key)).await.expect("made");
        let (unset, _) = start(Some(" ")).await.expect_err("an empty variable is one that is not set");
        assert!(unset.contains("its key file"), "{unset}");
        assert!(!data_dir.file("database.key").exists());
        start(Some(&key)).await.expect("opened");
        let (missing, _) = start(None).await.expect_err("no key");
        assert!(missing.contains(VARIABLE), "{missing}");
        let (wrong, _) = start(Some(&"ab".repeat(32))).await.expect_err("another key");
        assert!(wrong.contains(VARIABLE) && wrong.contains("was encrypted with key"), "{wrong}");
    }
}
