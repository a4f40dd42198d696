//! `certs`: an authority of one's own for mutual TLS between services, and for operators elsewhere. Needs no server.

use std::path::{Path, PathBuf};

use domain::Clock;
use domain::service::TRANSPORT;
use serde_json::{Value, json};
use service_kit::tls::{Identity, SpiffeId, Standing, Term, is_name, is_trust_domain};

use crate::args::{CertsAction, CertsArgs, Cli, InitArgs, RenewArgs};
use crate::authority::{Directory, Member, SERVICES, Terms, folder_of};
use crate::output::{Failed, eprint_line, print_json, print_line, print_table, when};

/// The trust domain where none is named.
const DOMAIN: &str = "switchboard";

pub(crate) fn run(cli: &Cli, args: &CertsArgs) -> Result<(), Failed> {
    let path = match &args.dir {
        Some(path) => path.clone(),
        // Not the data directory: the authority's key has no business where a service runs.
        None => PathBuf::from("certs"),
    };
    let directory = Directory::at(path);
    match &args.action {
        CertsAction::Init(args) => init(cli, &directory, args),
        CertsAction::Renew(args) => renew(cli, &directory, args),
        CertsAction::List => list(cli, &directory),
    }
}

fn init(cli: &Cli, directory: &Directory, args: &InitArgs) -> Result<(), Failed> {
    if let Some(domain) = args.domain.as_deref().filter(|domain| !is_trust_domain(domain)) {
        let message = format!("--domain {domain}: not a trust domain");
        return Err(Failed::usage(message, "use lower case letters, digits, dots and dashes"));
    }
    let operators = if args.operators.is_empty() { vec!["admin".to_owned()] } else { args.operators.clone() };
    if let Some(bad) = operators.iter().find(|name| !is_name(name)) {
        let message = format!("--operator {bad}: not a name");
        return Err(Failed::usage(message, "use letters, digits, dots, dashes and underscores"));
    }
    refuse_data_directory(directory.path())?;
    // What is added later is of the same domain as what is there.
    let there = directory.members_if_any()?;
    let domain = there.first().map(|member| member.signed.id.domain.clone());
    if let (Some(asked), Some(domain)) = (&args.domain, &domain)
        && **asked != **domain
    {
        let message = format!("--domain {asked}: what is in {} is of {domain}", directory.path().display());
        return Err(Failed::usage(message, "leave --domain out, or name another directory with --dir"));
    }
    let domain = domain.unwrap_or_else(|| args.domain.as_deref().unwrap_or(DOMAIN).into());
    let (authority, made_authority) = directory.authority(&domain)?;
    let (mut made, mut kept) = (Vec::new(), Vec::new());
    let services = SERVICES.into_iter().map(Identity::Service);
    for identity in services.chain(operators.iter().map(|name| Identity::Operator(name.as_str().into()))) {
        let name = folder_of(&identity);
        if directory.has(&name) {
            kept.push(directory.member(name)?);
            continue;
        }
        let mut hosts = vec![name, "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        hosts.extend(args.hosts.iter().cloned());
        let terms = Terms { days: args.days, hosts: &hosts };
        made.push(directory.make(&authority, &SpiffeId { domain: domain.clone(), identity }, &terms)?);
    }
    let made_seal = directory.seal_key()?;
    let now = Clock::system().now_s();
    if cli.json {
        print_json(&json!({ "directory": directory.path(), "authorityMade": made_authority, "sealKeyMade": made_seal,
            "made": members(&made), "kept": members(&kept) }));
        return Ok(());
    }
    let place = directory.path().display();
    print_line(&format!("{} authority: {place}/ca.pem, its key: {place}/ca-key.pem", verb(made_authority)));
    for (members, word) in [(&made, true), (&kept, false)] {
        for member in members {
            let until = when(member.signed.term.ends_s as f64, now);
            print_line(&format!("{} {place}/{}: {}, until {until}", verb(word), member.name, member.signed.id));
        }
    }
    print_line(&format!("{} seal key: {place}/auth-svc/seal.key and {place}/{TRANSPORT}/seal.key", verb(made_seal)));
    let lacks = |member: &&Member| {
        matches!(member.signed.id.identity, Identity::Service(_))
            && args.hosts.iter().any(|host| !member.signed.hosts.contains(host))
    };
    for member in kept.iter().filter(lacks) {
        eprint_line(&format!(
            "note: {} was kept as it is, without a --host of this call: remove {place}/{0}/cert.pem and run it again",
            member.name
        ));
    }
    eprint_line(
        "copy each folder to the host that it is for, and keep ca-key.pem off all of them; then, in switchboard.toml:",
    );
    eprint_line("  [tls] ca = \"…/ca.pem\", cert = \"…/cert.pem\", key = \"…/key.pem\"");
    Ok(())
}

fn verb(made: bool) -> &'static str {
    if made { "made" } else { "kept" }
}

fn renew(cli: &Cli, directory: &Directory, args: &RenewArgs) -> Result<(), Failed> {
    let authority = directory.opened()?;
    let members = directory.members()?;
    if let Some(unknown) = args.names.iter().find(|name| members.iter().all(|member| member.name != **name)) {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let message = format!("{} has no certificate of {unknown}", directory.path().display());
        return Err(Failed::usage(message, format!("name one of: {}", names.join(", "))));
    }
    let meant = |member: &&Member| args.names.is_empty() || args.names.contains(&member.name);
    let renewed: Result<Vec<_>, _> = members
        .iter()
        .filter(meant)
        .map(|member| directory.renew(&authority, member, args.days, args.new_keys))
        .collect();
    show(cli, directory, &renewed?);
    if !cli.json {
        eprint_line(
            "copy cert.pem, and key.pem if it is new, to the hosts; running services take them up within seconds",
        );
    }
    Ok(())
}

fn list(cli: &Cli, directory: &Directory) -> Result<(), Failed> {
    show(cli, directory, &directory.members()?);
    Ok(())
}

fn show(cli: &Cli, directory: &Directory, shown: &[Member]) {
    if cli.json {
        return print_json(&json!({ "directory": directory.path(), "certificates": members(shown) }));
    }
    let now = Clock::system().now_s();
    let rows: Vec<Vec<String>> = shown
        .iter()
        .map(|m| {
            let (term, until) = (m.signed.term, when(m.signed.term.ends_s as f64, now));
            vec![m.name.clone(), m.signed.id.to_string(), until, standing(term, now).to_owned()]
        })
        .collect();
    print_table(&["NAME", "ID", "UNTIL", "STATE"], &rows);
}

fn members(members: &[Member]) -> Value {
    let now = Clock::system().now_s();
    let one = |m: &Member| {
        json!({ "name": m.name, "id": m.signed.id.to_string(), "hosts": m.signed.hosts,
            "expiresAt": m.signed.term.ends_s, "state": standing(m.signed.term, now) })
    };
    members.iter().map(one).collect()
}

/// How a certificate stands, in one word.
fn standing(term: Term, now_s: i64) -> &'static str {
    match term.standing(now_s) {
        Standing::Good => "good",
        Standing::EndsSoon => "ends_soon",
        Standing::NotYet => "not_yet",
        Standing::Ended => "ended",
    }
}

/// Where a service runs nothing of an authority belongs.
fn refuse_data_directory(path: &Path) -> Result<(), Failed> {
    let here = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let data = |dir: &&Path| dir.join("switchboard.lock").exists() || dir.join("switchboard.db").exists();
    match here.ancestors().find(data) {
        Some(dir) => Err(Failed::usage(
            format!("{} lies in {}, the data directory of a service", path.display(), dir.display()),
            "the authority's key must be on no host where a service runs: name another place with --dir",
        )),
        None => Ok(()),
    }
}
