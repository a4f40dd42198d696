//! Where a service listens: a unix socket or a TCP port, bound before anything else starts.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

/// An address to listen on or to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `unix:///absolute/path`
    Unix(PathBuf),
    /// `host:port` with an IP address for host.
    Tcp(SocketAddr),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(format!("{text:?}: a unix address is unix:///absolute/path"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let text = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
        let text = text.replace("localhost:", "127.0.0.1:");
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("{text:?} is neither unix:///path nor address:port (an IP address, e.g. 127.0.0.1:7411)")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(addr) => write!(f, "{addr}"),
        }
    }
}

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct BindError {
    /// The address.
    pub address: String,
    /// Why, with the next step where there is one.
    pub cause: String,
}

impl BindError {
    fn new(address: &ListenAddress, cause: impl fmt::Display) -> Self {
        Self { address: address.to_string(), cause: cause.to_string() }
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Bound {
    /// On TCP.
    Tcp(TcpListener),
    /// On a unix socket, mode 0600; the file goes when this is dropped.
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket; removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is fine; anything else shows at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds. A socket file that nobody listens on any more (a killed process left it) is replaced.
    pub async fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        match address {
            ListenAddress::Tcp(addr) => {
                let listener = TcpListener::bind(addr).await.map_err(|e| match e.kind() {
                    io::ErrorKind::AddrInUse => BindError::new(
                        address,
                        "the port is in use by another process; stop it, or choose another port (0 takes a free one)",
                    ),
                    _ => BindError::new(address, e),
                })?;
                Ok(Self::Tcp(listener))
            }
            ListenAddress::Unix(path) => bind_unix(address, path).await,
        }
    }

    /// The real address, with the port that was taken for port 0.
    pub fn address(&self) -> Option<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(ListenAddress::Tcp),
            Self::Unix(_, file) => Some(ListenAddress::Unix(file.0.clone())),
        }
    }
}

async fn bind_unix(address: &ListenAddress, path: &Path) -> Result<Bound, BindError> {
    // The kernel's limit is 108 bytes with the terminator; its own error does not say so.
    if path.as_os_str().len() > 107 {
        return Err(BindError::new(address, "the path is longer than the 107 bytes a unix socket may have"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::new(address, "a file that is not a socket stands there; it is left alone"));
        }
        Ok(_) if tokio::net::UnixStream::connect(path).await.is_ok() => {
            return Err(BindError::new(address, "another process listens there; stop it first"));
        }
        Ok(_) => std::fs::remove_file(path).map_err(|e| BindError::new(address, e))?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|e| BindError::new(address, e))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|e| BindError::new(address, e))?;
    Ok(Bound::Unix(listener, SocketFile(path.to_owned())))
}
