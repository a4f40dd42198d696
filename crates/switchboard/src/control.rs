//! Reaching the server: over the all-in-one's control socket, or the services' own; and, for the commands that work
//! without a server, the credential store itself, under the data directory's lock.

use std::path::{Path, PathBuf};

use auth_svc::{AuthOptions, AuthService, Upgraded};
use domain::service::{AUTH, CLI};
use domain::{Clock, Failure, Reason};
use service_kit::startup::StartError;
use service_kit::{DataDir, DataDirError, DataDirLock, Holder, ListenAddress, PeerChannel};

use crate::args::{Cli, Command, CredentialsAction};
use crate::interrupt;
use crate::output::{Failed, eprint_line};
use crate::reach;
use crate::scratch::Scratch;

/// Name of the all-in-one's control socket, without `.sock`.
pub(crate) const CONTROL: &str = "switchboard";

/// The data directory that the arguments mean.
pub(crate) fn data_dir(cli: &Cli) -> Result<PathBuf, StartError> {
    let dir = cli.places.data_dir()?;
    Ok(if cli.sim { dir.join("sim") } else { dir })
}

/// The arguments' places, with the simulator's data directory if that is meant.
pub(crate) fn places(cli: &Cli) -> Result<service_kit::startup::Places, StartError> {
    Ok(service_kit::startup::Places { data_dir: Some(data_dir(cli)?), config: cli.places.config.clone() })
}

/// A client for `service`, if something listens there.
pub(crate) async fn connect(cli: &Cli, service: &'static str) -> Result<Option<PeerChannel>, Failed> {
    if let Some(address) = reach::remote_server(cli) {
        return reach::remote(cli, service, address).map(Some);
    }
    if let Some(server) = reach::named_server(cli) {
        return match server.parse::<ListenAddress>() {
            Ok(ListenAddress::Unix(path)) if answers(&path).await? => {
                Ok(Some(PeerChannel::unix(service, &path).asked_by(CLI)))
            }
            Ok(ListenAddress::Unix(path)) => Err(nobody(cli, &format!("unix://{}", path.display()))),
            Ok(ListenAddress::Tcp(_)) | Err(_) => {
                let message = format!("--server {server}: operators connect over a unix socket, or over TLS");
                Err(Failed::usage(message, "name it as unix:///path or https://HOST:PORT, or leave --server out"))
            }
        };
    }
    let dir = data_dir(cli)?;
    let own = [CONTROL, service].map(|name| dir.join(format!("{name}.sock")));
    for path in own.into_iter().chain(reach::sockets(cli, service)) {
        if answers(&path).await? {
            return Ok(Some(PeerChannel::unix(service, &path).asked_by(CLI)));
        }
    }
    Ok(None)
}

/// Whether somebody listens there. A socket of another user's is an error: there may be a server, but not for us.
async fn answers(path: &Path) -> Result<bool, Failed> {
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!("unix://{} serves its own user only: {error}", path.display());
            Err(Failure::new(Reason::PeerRefused, CLI, message).into())
        }
        Err(_) => Ok(false),
    }
}

fn nobody(cli: &Cli, place: &str) -> Failed {
    let message = format!("no server answers at {place}");
    let up = if cli.sim { "switchboard up --sim" } else { "switchboard up" };
    Failure::new(Reason::PeerUnavailable, CLI, message)
        .next_step(format!("start one with `{up}`, or name it with --server"))
        .into()
}

/// A client for a service that must be running.
pub(crate) async fn require(cli: &Cli, service: &'static str) -> Result<PeerChannel, Failed> {
    match connect(cli, service).await? {
        Some(channel) => Ok(channel),
        None => {
            let dir = data_dir(cli)?;
            let or = if service == CONTROL { String::new() } else { format!(" (or {service}.sock)") };
            Err(nobody(cli, &format!("{}/{CONTROL}.sock{or}", dir.display())))
        }
    }
}

/// The credential service: the running server's, or our own under the data directory's lock.
pub(crate) enum Auth {
    /// A server has it.
    Running(PeerChannel),
    /// Nobody had it: it runs in this process until [`Auth::finish`].
    Own(Box<Own>),
}

/// A credential service of this process's own.
pub(crate) struct Own {
    service: AuthService,
    _lock: DataDirLock,
    /// Goes last, with everything in it.
    scratch: Option<Scratch>,
}

/// How a credential service of this process's own is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// There must be a database.
    AsItIs,
    /// Data directory, database and keys are made if there are none.
    Made,
    /// The same, without a first agent key: a backup brings its own.
    MadeForBackup,
}

/// What the lock says of this process.
fn holder(cli: &Cli) -> Holder {
    let command = match &cli.command {
        Command::Import(_) => "switchboard import",
        Command::Login(_) => "switchboard login",
        Command::Credentials(args) if matches!(args.action, CredentialsAction::Rekey) => {
            "switchboard credentials rekey"
        }
        Command::Credentials(_) => "switchboard credentials",
        Command::Keys(_) => "switchboard keys",
        Command::Export(_) => "switchboard export",
        Command::Logout(_) => "switchboard logout",
        Command::Doctor(_) => "switchboard doctor",
        Command::Backup(_) => "switchboard backup",
        Command::Restore(_) => "switchboard restore",
        _ => "switchboard",
    };
    Holder::this(command, false)
}

async fn own(config: &config::Config, dir: &DataDir, opened: Opened) -> Result<AuthService, StartError> {
    let options = AuthOptions {
        config,
        data_dir: dir,
        // Nothing is bound in this process, so nothing is sealed: a key of its own will do.
        seal_key: Some(service_kit::SealKey::generate()?),
        create: opened != Opened::AsItIs,
        first_agent_key: opened == Opened::Made,
        clock: Clock::system(),
    };
    let service = auth_svc::build(options).await.map_err(|error| error.start_error(dir))?;
    if let Some(Upgraded { from, to, copy }) = service.upgraded() {
        eprint_line(&format!(
            "note: the database was upgraded from schema {from} to {to}; as it was before, it is kept in {}",
            copy.display()
        ));
    }
    Ok(service)
}

impl Auth {
    /// Finds or opens it. `create` makes data directory, database and keys if there are none.
    /// From here on a signal ends no act half-way: see [`Self::complete`].
    pub(crate) async fn open(cli: &Cli, create: bool) -> Result<Self, Failed> {
        Self::opened(cli, if create { Opened::Made } else { Opened::AsItIs }).await
    }

    /// [`Self::open`] for a backup to be taken in: one that is made has no agent key, since the backup brings its own.
    pub(crate) async fn open_for_backup(cli: &Cli) -> Result<Self, Failed> {
        Self::opened(cli, Opened::MadeForBackup).await
    }

    async fn opened(cli: &Cli, opened: Opened) -> Result<Self, Failed> {
        let _ = interrupt::listen()?;
        if let Some(channel) = connect(cli, AUTH).await? {
            return Ok(Self::Running(channel));
        }
        if let Some(elsewhere) = reach::store_elsewhere(cli) {
            return Err(elsewhere.failed());
        }
        let options = places(cli)?.load_options(Vec::new())?;
        let loaded = config::load(&options).map_err(StartError::from)?;
        let dir = DataDir::open(&options.data_dir, opened != Opened::AsItIs).map_err(StartError::from)?;
        let lock = dir.lock(&holder(cli)).map_err(|error| match error {
            // A server that answered would have been asked instead.
            DataDirError::InUse(_, ref holder) if holder.serves && !holder.command.is_empty() => {
                let mut failure = error.failure(CLI).next_step(holder.unanswered());
                failure.message.push_str(", which does not answer at its socket");
                Failed::from(failure)
            }
            other => StartError::from(other).into(),
        })?;
        let service = own(&loaded.config, &dir, opened).await?;
        Ok(Self::Own(Box::new(Own { service, _lock: lock, scratch: None })))
    }

    /// Finds or opens it for a command that must not change anything: where there is no database yet, an empty one in
    /// a directory of its own stands in, since everything would be new.
    pub(crate) async fn open_unchanged(cli: &Cli) -> Result<Self, Failed> {
        let _ = interrupt::listen()?;
        let options = places(cli)?.load_options(Vec::new())?;
        let config = config::load(&options).map_err(StartError::from)?.config;
        if config.auth.database.is_some() || options.data_dir.join("switchboard.db").exists() {
            return Self::open(cli, false).await;
        }
        if let Some(channel) = connect(cli, AUTH).await? {
            return Ok(Self::Running(channel));
        }
        if let Some(elsewhere) = reach::store_elsewhere(cli) {
            return Err(elsewhere.failed());
        }
        let scratch = Scratch::make("dry-run")?;
        let dir = DataDir::open(scratch.path(), true).map_err(StartError::from)?;
        let lock = dir.lock(&holder(cli)).map_err(StartError::from)?;
        let service = own(&config, &dir, Opened::MadeForBackup).await?;
        Ok(Self::Own(Box::new(Own { service, _lock: lock, scratch: Some(scratch) })))
    }

    /// A client for it.
    pub(crate) fn channel(&self) -> PeerChannel {
        match self {
            Self::Running(channel) => channel.clone(),
            Self::Own(own) => PeerChannel::in_process(AUTH, own.service.mounted().router()),
        }
    }

    /// True if it is the empty one that stands in for a database that is not there yet.
    pub(crate) fn is_stand_in(&self) -> bool {
        matches!(self, Self::Own(own) if own.scratch.is_some())
    }

    /// True if a server runs.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// Waits for `work` against it, and ends it. A signal ends the wait and not what has begun: in this process that is
    /// waited for, and a server does not need us for it.
    ///
    /// # Errors
    ///
    /// [`Failed::Interrupted`] after a signal.
    pub(crate) async fn complete<T>(self, work: impl Future<Output = T>) -> Result<T, Failed> {
        let asked = interrupt::listen()?;
        let done = async {
            if asked.is_cancelled() {
                return None;
            }
            tokio::select! {
                biased;
                done = work => Some(done),
                () = asked.cancelled() => None,
            }
        };
        let done = done.await;
        if done.is_none() && !self.is_running() {
            eprint_line(
                "interrupted; what has begun is brought to its end, which a signal after this one would not wait for",
            );
        }
        let state =
            if self.is_running() { "the server brings to its end what has begun" } else { "what had begun has ended" };
        self.finish().await;
        done.ok_or(Failed::Interrupted(state))
    }

    /// Ends our own; a running server's is left alone.
    pub(crate) async fn finish(self) {
        if let Self::Own(own) = self {
            own.service.shutdown().await;
        }
    }
}
