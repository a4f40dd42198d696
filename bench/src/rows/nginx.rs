//! nginx as a plain reverse proxy: connections are kept on both sides, nothing is buffered, and each call is a line in the
//! access log, as it is where nginx was just installed.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use e2e::Home;

use super::process::Service;
use super::{free_port, on_path};
use crate::Failed;
use crate::sim::SimProcess;

const START_TIME: Duration = Duration::from_secs(10);

pub(super) fn missing() -> Option<String> {
    on_path("nginx").is_none().then(|| "nginx is not installed (Debian: `apt install nginx-light`)".to_owned())
}

pub(super) async fn start(sim: &SimProcess) -> Result<(Service, SocketAddr), Failed> {
    let program = on_path("nginx").ok_or("nginx is not installed")?;
    let home = Home::bare();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let folder = home.path("logs").display().to_string();
    let file = home.write("nginx.conf", &configuration(sim, address, &folder)?);
    let mut command = Command::new(program);
    command.arg("-p").arg(&folder).arg("-c").arg(file).arg("-e").arg(format!("{folder}/error.log"));
    let mut service = Service::spawn("nginx", command, &home)?;
    service.listening(address, START_TIME).await?;
    Ok((service, address))
}

fn configuration(sim: &SimProcess, address: SocketAddr, folder: &str) -> Result<String, Failed> {
    let scheme = if sim.ca_pem.is_some() { "https" } else { "http" };
    // Only root may choose, and its workers could not read this folder otherwise.
    let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    Ok(format!(
        "{user}
daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log {folder}/access.log;
    {temporary}
    keepalive_timeout 600s;
    keepalive_requests 100000000;
    upstream sim {{
        server {upstream};
        keepalive 512;
        keepalive_requests 100000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen {address} backlog=4096;
        client_max_body_size 64m;
        location / {{
            proxy_pass {scheme}://sim;
            proxy_http_version 1.1;
            proxy_set_header connection \"\";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
",
        upstream = sim.address()?
    ))
}
