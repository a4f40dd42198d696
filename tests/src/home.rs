//! What a deployment has on disk: a data directory, a configuration, an environment. Commands run in it, with or without
//! a server.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use codex_sim::{SeedLogin, SeededLogin, Sim};
use tempfile::TempDir;

use crate::bin::bin;
use crate::canary::Canary;
use crate::cli::Output;
use crate::collector::Collector;
use crate::http::Answer;
use crate::topology::Part;

/// A file or folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    assert!(path.exists(), "there is no fixture {}", path.display());
    path
}

/// A place of its own for one deployment; it goes with the last clone. Clones share everything.
#[derive(Clone, Debug)]
pub struct Home {
    root: Arc<Place>,
    /// Dotted keys and their values as TOML.
    settings: Arc<Mutex<BTreeMap<String, String>>>,
    environment: Arc<Mutex<BTreeMap<String, String>>>,
}

/// The folder of a home. What it has let out is searched for secrets before it goes.
#[derive(Debug)]
struct Place {
    folder: TempDir,
    canary: Option<Arc<Canary>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(canary) = &self.canary {
            canary.finish();
        }
    }
}

impl Home {
    /// A home whose upstream and identity provider are `sim`. The data directory does not exist yet.
    pub fn new(sim: &Sim) -> Self {
        let home = Self::with(Some(sim));
        let plain = sim.plain_base_url();
        home.set("targets.chatgpt-codex.base_url", quoted(&sim.codex_base_url()));
        home.set("targets.openai-api.base_url", quoted(&sim.openai_base_url()));
        // Only the transport service can be told to trust another authority.
        home.set("auth.identity_url", quoted(plain.as_deref().unwrap_or(&sim.base_url())));
        // A test counts the requests that it makes; those about workspaces set this themselves.
        home.set("auth.workspace_refresh", "\"0\"");
        if let Some(pem) = sim.ca_pem() {
            let path = home.write("ca.pem", pem);
            home.set("transport.ca_file", quoted(&path.to_string_lossy()));
        }
        home
    }

    /// A home with the built-in defaults, but for the ports, which are free ones. Its upstream is the real one.
    pub fn bare() -> Self {
        Self::with(None)
    }

    fn with(sim: Option<&Sim>) -> Self {
        let private = std::fs::Permissions::from_mode(0o700);
        let root =
            tempfile::Builder::new().prefix("sb-").permissions(private).tempdir().expect("a temporary directory");
        let canary = sim.map(|sim| Canary::new(root.path(), sim.state().clone()));
        let root = Place { folder: root, canary };
        let home = Self { root: Arc::new(root), settings: Arc::default(), environment: Arc::default() };
        for section in ["gateway", "auth", "router", "transport"] {
            home.set(&format!("{section}.admin_listen"), "\"127.0.0.1:0\"");
        }
        home.set("gateway.listen", "\"127.0.0.1:0\"");
        for folder in ["home", "logs"] {
            std::fs::create_dir(home.path(folder)).expect("made");
        }
        home
    }

    /// Sets a key of the configuration file: dotted as in TOML, the value as TOML. Running services see it when they
    /// reload or start again.
    pub fn set(&self, key: &str, value: impl Into<String>) -> &Self {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value.into());
        self.write_config();
        self
    }

    /// Takes a key out of the configuration file.
    pub fn unset(&self, key: &str) -> &Self {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.write_config();
        self
    }

    fn write_config(&self) {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: String = settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        // In one step, for a service that reads it just now.
        let new = self.write("switchboard.toml.new", &lines);
        std::fs::rename(new, self.config_file()).expect("renamed");
    }

    /// Sets a variable for every process started from now on. They get no other variables of the test's own
    /// environment than `PATH`.
    pub fn env(&self, name: &str, value: impl Into<String>) -> &Self {
        let value = value.into();
        if let (Some(canary), true) = (self.canary(), name == "SWITCHBOARD_DATABASE_KEY") {
            canary.learn("the database key", &value);
        }
        self.environment.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
        self
    }

    /// Lets every process started from now on export its spans to `collector`.
    pub fn export_to(&self, collector: &Collector) -> &Self {
        if let Some(canary) = self.canary() {
            canary.watch("an OTLP export", collector.exports());
        }
        self.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "100")
    }

    /// What watches over this home's secrets; none without a simulator, which knows them.
    pub(crate) fn canary(&self) -> Option<&Arc<Canary>> {
        self.root.canary.as_ref()
    }

    /// Something that this home must not let out, beside what is known without saying.
    pub fn keeps(&self, kind: &str, secret: &str) -> &Self {
        if let Some(canary) = self.canary() {
            canary.learn(kind, secret);
        }
        self
    }

    /// Excuses an answer that holds a secret because its caller has sent it, and the upstream repeats it.
    pub fn excuse(&self, echo: &Answer) -> &Self {
        if let Some(canary) = self.canary() {
            canary.excuse(&echo.body);
        }
        self
    }

    /// A path below the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.folder.path().join(name)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// The configuration file, which stands outside the data directory.
    pub fn config_file(&self) -> PathBuf {
        self.path("switchboard.toml")
    }

    /// Where the processes log.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.path("logs").join(format!("{name}.log"))
    }

    /// Everything that any process logged so far, ended ones included, to be searched for what must not be in it.
    pub fn logs(&self) -> String {
        let folder = std::fs::read_dir(self.path("logs")).expect("a folder");
        let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry.expect("an entry").path());
        folder.map(|entry| String::from_utf8_lossy(&read(entry).expect("a log")).into_owned()).collect()
    }

    /// Writes a file that nobody else can read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the home")).expect("made");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("made private");
        path
    }

    /// A copy of a fixture's folder that a test may change.
    pub fn copy_fixture(&self, name: &str) -> PathBuf {
        let copy = self.path(name);
        copy_folder(&fixture(name), &copy);
        copy
    }

    /// A command of one of the binaries, with this home's places and environment.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(bin(name));
        command.env_clear().env("HOME", self.path("home")).env("RUST_BACKTRACE", "1").current_dir(self.path("home"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&*self.environment.lock().unwrap_or_else(PoisonError::into_inner));
        command.arg("--data-dir").arg(self.data_dir()).arg("--config").arg(self.config_file());
        command
    }

    /// A command of the service `part` over this home.
    pub(crate) fn service(&self, part: Part) -> Command {
        let mut command = self.command(part.name());
        if part == Part::Auth {
            // The first of them makes what a first start needs, as `switchboard up` does.
            command.arg("--init");
        }
        command
    }

    /// The folder that `switchboard certs init` has made for `name`: a service's, or `operator-alice`.
    pub fn certificates(&self, name: &str) -> PathBuf {
        self.path("home/certs").join(name)
    }

    /// The environment that gives a process the certificate of `name`.
    pub fn tls(&self, name: &str) -> [(&'static str, PathBuf); 3] {
        let folder = self.certificates(name);
        [
            ("SWITCHBOARD__TLS__CA", folder.join("ca.pem")),
            ("SWITCHBOARD__TLS__CERT", folder.join("cert.pem")),
            ("SWITCHBOARD__TLS__KEY", folder.join("key.pem")),
        ]
    }

    /// Runs `switchboard <args>` to its end.
    pub async fn cli(&self, args: &[&str]) -> Output {
        self.cli_with_input(args, "").await
    }

    /// As [`Self::cli`], with text on standard input.
    pub async fn cli_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command("switchboard");
        command.args(args);
        Output::of(command, input).await
    }

    /// Makes a login at the simulator and writes it as Codex CLI's `auth.json`; gives the login and the file.
    pub fn codex_login(&self, sim: &Sim, seed: SeedLogin) -> (SeededLogin, PathBuf) {
        let login = sim.state().seed_login(seed);
        let name = format!("codex-{}/auth.json", login.login_id);
        let path = self.write(&name, &login.codex_auth_json().to_string());
        (login, path)
    }

    /// Makes a login at the simulator and imports it under `label`.
    pub async fn import_codex(&self, sim: &Sim, account: &str, label: &str) -> SeededLogin {
        let (login, path) = self.codex_login(sim, SeedLogin::account(account));
        let _ = self.cli(&["import", "codex", &path.to_string_lossy(), "--label", label]).await.ok();
        login
    }
}

/// A text as a TOML string. JSON's escapes are TOML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let copy = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &copy);
        } else {
            // Not `fs::copy`, which would keep a read-only mode.
            std::fs::write(&copy, std::fs::read(entry.path()).expect("read")).expect("written");
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).expect("made private");
        }
    }
}

#[cfg(test)]
mod tests {
    use codex_sim::SimConfig;

    use super::*;

    #[tokio::test]
    async fn the_configuration_is_one_that_switchboard_takes() {
        let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
        let home = Home::new(&sim);
        home.set("agents.\"a b\".model", "\"codex/gpt-5.5\"").set("defaults.fallbacks", "[\"openai/gpt-5.5\"]");
        let load = || {
            let options = config::LoadOptions {
                file: Some(home.config_file()),
                data_dir: home.data_dir(),
                ..config::LoadOptions::default()
            };
            config::load(&options).unwrap_or_else(|error| panic!("{error}")).config
        };
        let config = load();
        let target = config.targets.get("chatgpt-codex").expect("built in");
        assert_eq!(target.base_url, sim.codex_base_url());
        assert_eq!((config.auth.identity_url, config.defaults.fallbacks.len()), (sim.base_url(), 1));
        home.unset("defaults.fallbacks");
        assert_eq!(load().defaults.fallbacks.len(), 0);
        sim.stop().await;
    }

    #[test]
    fn fixtures_are_copied_to_be_changed() {
        let home = Home::bare();
        let copy = home.copy_fixture("openclaw-state");
        std::fs::write(copy.join("xdg-config/openclaw/auth-profile-secret-key"), "another").expect("writable");
        assert!(copy.join("agents/main/agent/auth-profiles.json").is_file());
        std::fs::write(home.log_file("auth-svc"), "said").expect("written");
        assert_eq!(home.logs(), "said");
    }
}
