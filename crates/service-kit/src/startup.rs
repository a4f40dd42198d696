//! How every service process starts: arguments, configuration, data directory, telemetry, then ports, all of them
//! bound before any work begins, and their real addresses printed, one line each.

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use config::{Config, LoadOptions, LogFormat};
use domain::{Failure, Reason, service};
use futures_util::future::join_all;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::Upkeep;
use crate::channel::PeerChannel;
use crate::data_dir::{DataDir, DataDirError};
use crate::health::check_health;
use crate::listener::{Bound, ListenAddress};
use crate::mount::Mounted;
use crate::server::{ServeOptions, serve};
use crate::tls::MutualTls;
use crate::{admin, harden, process, shutdown_signal};

pub use crate::start_error::{EXIT_CONFIGURATION, StartError, finish};
pub use crate::tls::{RENEW, follow, mutual_tls};

/// Most connections at a time where services and operators connect. Each has a few; what is beyond is nobody's.
const MAX_INTERNAL_CONNECTIONS: usize = 1024;

/// How to call this program's command for the data directory at `path`, as typed into a shell: with `--data-dir` unless it
/// is the one that is taken without.
pub fn command_for(path: &Path) -> String {
    let usual = Places::default().data_dir().ok().and_then(|usual| usual.canonicalize().ok());
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match usual.is_some_and(|usual| usual == path) {
        true => "switchboard".to_owned(),
        false => format!("switchboard --data-dir {}", quoted(&path)),
    }
}

/// A path as a shell takes it for one word.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Where a process finds its files.
#[derive(Args, Clone, Debug, Default)]
pub struct Places {
    /// Data directory [default: $XDG_DATA_HOME/switchboard, else ~/.local/share/switchboard]
    #[arg(long, global = true, value_name = "DIR", env = "SWITCHBOARD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: switchboard.toml in the data directory, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "SWITCHBOARD_CONFIG")]
    pub config: Option<PathBuf>,
}

impl Places {
    /// The data directory's path.
    pub fn data_dir(&self) -> Result<PathBuf, StartError> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        self.data_dir
            .clone()
            .or_else(|| set("XDG_DATA_HOME").map(|d| d.join("switchboard")))
            .or_else(|| set("HOME").map(|d| d.join(".local/share/switchboard")))
            .ok_or_else(|| {
                StartError::Failed("no data directory: set --data-dir, SWITCHBOARD_DATA_DIR or HOME".to_owned())
            })
    }

    /// What the configuration is loaded from.
    pub fn load_options(&self, overrides: Vec<(String, String)>) -> Result<LoadOptions, StartError> {
        Ok(LoadOptions {
            file: self.config.clone(),
            data_dir: self.data_dir()?,
            // A variable that is no UTF-8 cannot be one of ours: their names and values are ASCII.
            env: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            overrides,
        })
    }
}

/// Arguments of a service binary.
#[derive(Parser, Debug)]
#[command(
    version,
    about = "One of Switchboard's four services; see docs/operations.md",
    disable_help_subcommand = true
)]
struct ServiceArgs {
    #[command(flatten)]
    places: Places,
    /// Where to listen: unix:///path, or address:port for the gateway
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the admin port listens (/healthz, /readyz, /metrics)
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Make the data directory, keys and first agent key if there are none, before starting
    #[arg(long)]
    init: bool,
    #[command(subcommand)]
    command: Option<ServiceCommand>,
}

#[derive(Subcommand, Debug)]
enum ServiceCommand {
    /// Ask the running service whether it serves; exits 0 if so
    Health,
}

/// A service process after its arguments and configuration were read.
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The data directory.
    pub data_dir: DataDir,
    /// True if what is missing is to be made.
    pub init: bool,
    /// Cancelled when the process is to stop.
    pub shutdown: CancellationToken,
    /// What `[tls]` names, for other hosts.
    pub mutual: Option<MutualTls>,
    options: LoadOptions,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("data_dir", &self.data_dir).field("init", &self.init).finish_non_exhaustive()
    }
}

/// Reads the configuration again, with the same flags and environment.
pub type Loader = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// A loader over `options`.
pub fn loader(options: LoadOptions) -> Loader {
    Arc::new(move || config::load(&options).map(|loaded| loaded.config).map_err(|e| e.to_string()))
}

impl Start {
    /// Reads the configuration again, with the same flags and environment.
    pub fn loader(&self) -> Loader {
        loader(self.options.clone())
    }

    /// Binds what peers use: the socket of the data directory, or the one that is `configured`; a configured TCP address
    /// beside the socket, which operators on this host go on using.
    pub async fn bind_internal(&self, name: &'static str, configured: Option<&str>) -> Result<Vec<Bound>, StartError> {
        let address = internal_address(&self.data_dir, name, configured)?;
        let ListenAddress::Tcp(addr) = address else { return Ok(vec![Bound::bind(&address).await?]) };
        if self.mutual.is_none() {
            return Err(StartError::Configuration(format!(
                "{name} cannot listen on {addr} without mutual TLS: set [tls] ca, cert, key, or use \
                 \"unix:///absolute/path\""
            )));
        }
        Ok(vec![Bound::bind(&address).await?, Bound::bind(&self.data_dir.socket(name)).await?])
    }

    /// How peers are served.
    pub fn internal_options(&self) -> ServeOptions {
        ServeOptions {
            mutual: self.mutual.clone(),
            max_connections: MAX_INTERNAL_CONNECTIONS,
            ..ServeOptions::default()
        }
    }

    /// Binds an address of the configuration.
    pub async fn bind(&self, address: &str) -> Result<Bound, StartError> {
        Ok(Bound::bind(&parse_address(address)?).await?)
    }
}

/// The address of a service's socket: `configured`, else the data directory's.
pub fn internal_address(dir: &DataDir, name: &str, configured: Option<&str>) -> Result<ListenAddress, StartError> {
    configured.map_or_else(|| Ok(dir.socket(name)), parse_address)
}

/// A client for a peer: at `configured`, else at the data directory's socket.
pub fn peer_channel(
    dir: &DataDir,
    name: &'static str,
    configured: Option<&str>,
    mutual: Option<&MutualTls>,
) -> Result<PeerChannel, StartError> {
    if let Some(address) = configured.and_then(|configured| configured.strip_prefix("https://")) {
        let mutual = mutual.ok_or_else(|| {
            StartError::Configuration(format!("{name} at https://{address} needs mutual TLS: set [tls] ca, cert, key"))
        })?;
        return Ok(PeerChannel::network(name, address.trim_end_matches('/'), mutual));
    }
    match internal_address(dir, name, configured)? {
        ListenAddress::Unix(path) => Ok(PeerChannel::unix(name, &path)),
        ListenAddress::Tcp(addr) => Err(StartError::Configuration(format!(
            "{name} at {addr}: services are reached over unix:///path, or https://host:port with [tls]"
        ))),
    }
}

fn parse_address(address: &str) -> Result<ListenAddress, StartError> {
    address.parse().map_err(StartError::Configuration)
}

/// Prints the address of every listener, one line each. Standard output is for this alone.
pub fn announce(listeners: &[(&str, &Bound)]) {
    for (name, bound) in listeners {
        if let Some(address) = bound.address() {
            // A reader that has gone away is no reason to end.
            let _ = writeln!(std::io::stdout(), "listening {name} {address}");
        }
    }
}

/// As [`announce`]: where the service `name` listens, and then the others.
pub fn announce_all(name: &str, listeners: &[Bound], others: &[(&str, &Bound)]) {
    let mut all: Vec<_> = listeners.iter().map(|bound| (name, bound)).collect();
    all.extend_from_slice(others);
    announce(&all);
}

/// Serves `mounted` on `listeners`, and the admin port, until shutdown.
pub async fn serve_with_admin(
    mounted: Mounted,
    listeners: Vec<Bound>,
    admin: (impl Into<admin::Admin>, Bound),
    options: ServeOptions,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let (admin, admin_listener) = admin;
    let admin: admin::Admin = admin.into();
    // `health` and `/readyz` are one answer.
    let router = mounted.listenable_while(admin.readiness().to_vec()).await?;
    let mut admin = admin.gauges(process::gauges());
    if let Some(mutual) = &options.mutual {
        admin = admin.gauges(mutual.gauges()).warnings(mutual.warnings());
    }
    let upkeep = admin.all_upkeep();
    let admin = admin::router(admin);
    let serving = listeners.into_iter().map(|bound| serve(router.clone(), bound, options.clone(), shutdown.clone()));
    let (_, (), ()) = tokio::join!(
        join_all(serving),
        serve(admin, admin_listener, ServeOptions::admin(), shutdown.clone()),
        keep_up(upkeep, shutdown)
    );
    Ok(())
}

/// Where nobody scrapes, what was recorded would pile up; and what else is done every few seconds.
async fn keep_up(upkeep: Vec<Upkeep>, shutdown: CancellationToken) {
    while tokio::time::timeout(Duration::from_secs(10), shutdown.cancelled()).await.is_err() {
        telemetry::metrics::upkeep();
        upkeep.iter().for_each(|keep_up| keep_up());
    }
}

/// The `main` of a service: reads arguments and configuration, then runs `start` until it returns.
pub fn run<F, Fut>(name: &'static str, start: F) -> ExitCode
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<(), StartError>>,
{
    let args = ServiceArgs::parse();
    let ready = harden::harden().map_err(not_hardened).and_then(|()| shared_runtime());
    finish(ready.and_then(|runtime| runtime.block_on(run_service(name, args, start))))
}

/// A process that cannot be hardened does not go on to read secrets.
pub fn not_hardened(error: std::io::Error) -> StartError {
    StartError::Failed(format!(
        "the system does not let this process forbid core dumps: {error}; {}=1 starts it without",
        harden::ALLOW_CORE
    ))
}

/// Says what this process's memory is open to, once it can log.
pub fn tell_memory() {
    if harden::memory() != harden::Memory::Closed {
        tracing::warn!("core dumps and debuggers of this user can read this process's secrets");
    }
}

/// The process's runtime, with the one TLS provider installed before anything can ask for one.
pub fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    built(&mut tokio::runtime::Builder::new_multi_thread())
}

/// The runtime of one service of four. They work on the same calls, one after the other: each has half of the
/// processors, and wakes fewer threads for nothing. `TOKIO_WORKER_THREADS` says how many it has instead.
fn shared_runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        builder.worker_threads(std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2)));
    }
    built(&mut builder)
}

fn built(builder: &mut tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, StartError> {
    // Fails only if one is installed already, and then it is the same one: the tree holds no other.
    let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(builder.enable_all().build()?)
}

async fn run_service<F, Fut>(name: &'static str, args: ServiceArgs, start: F) -> Result<(), StartError>
where
    F: FnOnce(Start) -> Fut,
    Fut: Future<Output = Result<(), StartError>>,
{
    let options = args.places.load_options(overrides(name, &args))?;
    let loaded = config::load(&options)?;
    if matches!(args.command, Some(ServiceCommand::Health)) {
        return health(name, &options.data_dir, &loaded.config).await;
    }
    let data_dir = DataDir::open(&options.data_dir, args.init).map_err(|error| absent(name, error))?;
    let telemetry = telemetry::init(name, log_format(&loaded.config), "info")?;
    tell_memory();
    let shutdown = shutdown_signal()?;
    // router-svc reads its routes again at SIGHUP; no service dies of one, least of all with a refresh under way.
    let _hangup = signal(SignalKind::hangup())?;
    let mutual = mutual_tls(&loaded.config)?;
    let following = CancellationToken::new();
    let follow = follow(mutual.clone(), following.clone());
    let started = async {
        let result = start(Start { config: loaded.config, data_dir, init: args.init, shutdown, mutual, options }).await;
        following.cancel();
        result
    };
    let (result, ()) = tokio::join!(started, follow);
    telemetry.shutdown(Duration::from_secs(5)).await;
    result
}

/// A directory that is not there is made by the service itself: nobody is sent to make another deployment in it.
fn absent(name: &'static str, error: DataDirError) -> StartError {
    let DataDirError::Absent(path) = error else { return error.into() };
    let message = format!("data directory {} does not exist", path.display());
    let failure = Failure::new(Reason::StoreUnavailable, name, message)
        .next_step(format!("make it with `{name} --init`, or name another with --data-dir"));
    Failure { retryable: false, retry_after_seconds: None, ..failure }.into()
}

/// The log format of the configuration, as telemetry takes it.
pub fn log_format(config: &Config) -> telemetry::LogFormat {
    match config.telemetry.log_format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    }
}

fn section(name: &str) -> &str {
    name.strip_suffix("-svc").unwrap_or(name)
}

fn overrides(name: &str, args: &ServiceArgs) -> Vec<(String, String)> {
    let flags = [("listen", &args.listen), ("admin_listen", &args.admin_listen)];
    let set = flags.into_iter().filter_map(|(key, value)| Some((format!("{}.{key}", section(name)), value.clone()?)));
    set.collect()
}

async fn health(name: &'static str, dir: &Path, config: &Config) -> Result<(), StartError> {
    let dir = DataDir::open(dir, false)?;
    let configured = match name {
        service::AUTH => config.auth.listen.as_deref(),
        service::ROUTER => config.router.listen.as_deref(),
        service::TRANSPORT => config.transport.listen.as_deref(),
        _ => None,
    };
    // A service on TCP has its socket beside it.
    let configured = configured.filter(|address| address.starts_with("unix:"));
    let channel = peer_channel(&dir, name, configured, None)?;
    let place = channel.describe();
    check_health(channel).await.map_err(|failure| StartError::Failed(failure.to_string()))?;
    writeln!(std::io::stdout(), "{place}: serving")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_how_it_makes_its_own_directory() {
        let error = absent("gateway", DataDirError::Absent("/nowhere".into()));
        let failure = error.into_failure("gateway");
        assert!(failure.message.contains("/nowhere") && failure.next_step.contains("`gateway --init`"), "{failure}");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let here = tempfile::tempdir().expect("tempdir");
        let odd = here.path().join("it's");
        std::fs::create_dir(&odd).expect("made");
        assert!(command_for(&odd).ends_with(r"/it'\''s'"), "{}", command_for(&odd));
    }
}
