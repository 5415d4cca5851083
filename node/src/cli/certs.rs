//! `quorate certs`: makes certificates for clients, and shows what certificates say.

use std::path::{Path, PathBuf};

use quorate_client::config::ClientConfig;
use quorate_client::link::Role;
use serde_json::json;

use super::args::{CertsArgs, CertsClientArgs, CertsCommand, CertsShowArgs, Global, RoleArg};
use super::certificate_info::CertificateInfo;
use super::exit::{Exit, Problem};
use super::is_json;
use super::new_cluster::{
    CLIENT_AUTHORITY_KEY_FILE, certificate, make_folder, open_file, refuse_if_used, validity,
    write_client,
};
use super::output::{Format, print, print_json};
use super::session::client_file;
use crate::config::ClusterFile;
use crate::shell::certs::{CLIENT_AUTHORITY_FILE, NODE_AUTHORITY_FILE, PemPair, sign_client};

/// Runs the command.
///
/// # Errors
/// A [`Problem`] if a file is missing or malformed, or `--out` holds anything.
pub(super) fn run(args: CertsArgs, global: &Global) -> Result<Exit, Problem> {
    match args.command {
        CertsCommand::Client(args) => client(&args, global),
        CertsCommand::Show(args) => show(args, global),
    }
}

fn client(args: &CertsClientArgs, global: &Global) -> Result<Exit, Problem> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => folder_of(&client_file(global)?),
    };
    let cluster = ClusterFile::load(&dir.join("cluster.toml"))?;
    let read = |name: &str| read(&dir.join(name));
    let authority = PemPair {
        certificate: read(CLIENT_AUTHORITY_FILE)?,
        key: read(CLIENT_AUTHORITY_KEY_FILE)?,
    };
    let role = match args.role {
        RoleArg::Data => Role::Data,
        RoleArg::Admin => Role::Admin,
    };
    let id = cluster.cluster_id;
    let signed = sign_client(&authority, id, role, &args.name, validity());
    let signed = signed.map_err(certificate)?;
    refuse_if_used(&args.out)?;
    make_folder(&args.out)?;
    write_client(&args.out, &cluster, role, &signed)?;
    open_file(
        &args.out.join(NODE_AUTHORITY_FILE),
        &read(NODE_AUTHORITY_FILE)?,
    )?;
    let file = args.out.join("client.toml").display().to_string();
    match global.output {
        Format::Text => print(format!("made {file}; use it with --client {file}\n").as_bytes())?,
        Format::Json => print_json(&json!({
            "schema": "certs-client/v1",
            "role": role.to_string(),
            "name": args.name,
            "client": file,
        }))?,
    }
    Ok(Exit::Ok)
}

fn show(args: CertsShowArgs, global: &Global) -> Result<Exit, Problem> {
    let files = if args.files.is_empty() {
        let path = client_file(global)?;
        let config = ClientConfig::read(&path)
            .map_err(|e| Problem::new(Exit::Usage, "CLIENT_FILE", e.to_string()))?;
        vec![config.cert, config.ca]
    } else {
        args.files
    };
    let mut shown = Vec::new();
    for file in files {
        if file.is_dir() {
            return Err(folder(&file));
        }
        let info = CertificateInfo::from_pem(read(&file)?.as_bytes()).map_err(|e| {
            Problem::new(
                Exit::Usage,
                "CERTIFICATE",
                format!("{}: {e}", file.display()),
            )
        })?;
        shown.push((file, info));
    }
    if is_json(global.output) {
        print_json(&json!({
            "schema": "certs/v1",
            "certificates": shown.iter().map(|(file, info)| document(file, info))
                .collect::<Vec<_>>(),
        }))?;
    } else {
        let text: String = shown.iter().map(|(file, info)| text(file, info)).collect();
        print(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn document(file: &Path, info: &CertificateInfo) -> serde_json::Value {
    json!({
        "file": file.display().to_string(),
        "subject": info.subject,
        "issuer": info.issuer,
        "names": info.names,
        "authority": info.is_authority,
        "not_before": info.not_before,
        "not_after": info.not_after,
        "valid": info.is_valid_now,
    })
}

fn text(file: &Path, info: &CertificateInfo) -> String {
    let valid = if info.is_valid_now {
        "valid"
    } else {
        "NOT VALID NOW"
    };
    let authority = if info.is_authority {
        " (authority)"
    } else {
        ""
    };
    format!(
        "{}\n  subject  {}{authority}\n  signed   by {}\n  names    {}\n  {valid}    {} to {}\n",
        file.display(),
        info.subject,
        info.issuer,
        info.names.join(", "),
        info.not_before_text,
        info.not_after_text,
    )
}

/// What to do about a folder where a certificate was expected.
fn folder(path: &Path) -> Problem {
    let what = format!("{} is a folder, not a certificate", path.display());
    let problem = Problem::new(Exit::Usage, "FILE_UNREADABLE", what);
    let client = path.join("client.toml");
    if client.exists() {
        return problem.then(format!("quorate --client {} certs show", client.display()));
    }
    let mut files: Vec<String> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|end| end == "crt"))
        .map(|file| file.display().to_string())
        .collect();
    files.sort();
    match files.first() {
        Some(file) => problem.then(format!("quorate certs show {file}")),
        None => problem.then("name certificate files; this folder has none"),
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|e| {
        let what = format!("cannot read {}: {e}", path.display());
        Problem::new(Exit::Usage, "FILE_UNREADABLE", what)
            .then("name the cluster's folder with --dir")
    })
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent()
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}
