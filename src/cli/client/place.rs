//! Where the server is, and its token: as it was told, or as the server's own settings say.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ApiArgs, CommandError};
use crate::{
    api::TOKEN_FILE,
    config::{Config, DEFAULT_FILE},
};

/// Where the server is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) api: String,
    pub(super) token_file: PathBuf,
}

/// What a command takes of the server's settings. The others are the server's business: it may be newer than the
/// command, and they may name files that an operator cannot read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    data_dir: Option<PathBuf>,
    admin: Admin,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Admin {
    listen: Option<String>,
    tls_certificate: Option<PathBuf>,
}

impl Place {
    /// What was told first of all, then what the environment overlays the settings with, then the settings file, then the
    /// defaults. The file is not read when all was told.
    pub(super) fn of(
        args: &ApiArgs,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CommandError> {
        let env = |name: &str| env(name).map(|value| unquoted(&value).to_owned());
        let told = args.api.is_some() && (args.token.is_some() || args.token_file.is_some());
        let (path, settings) = if told {
            (PathBuf::new(), Settings::default())
        } else {
            read(args.config.as_deref())?
        };
        let defaults = Config::default();
        let api = if let Some(api) = &args.api {
            api.trim_end_matches('/').to_owned()
        } else {
            let variable = "CELLWISE_ADMIN__LISTEN";
            let certificate = env("CELLWISE_ADMIN__TLS_CERTIFICATE").map(PathBuf::from);
            let certificate = certificate.or(settings.admin.tls_certificate);
            let secure = certificate.is_some_and(|path| !path.as_os_str().is_empty());
            let given = match (env(variable), settings.admin.listen) {
                (Some(listen), _) => Some((PathBuf::from(variable), listen)),
                (None, listen) => listen.map(|listen| (path, listen)),
            };
            let listen = match given {
                Some((path, listen)) => parse(path, &listen)?,
                None => defaults.admin.listen,
            };
            let scheme = if secure { "https" } else { "http" };
            format!("{scheme}://{}", reached(listen))
        };
        let data_dir = env("CELLWISE_DATA_DIR")
            .map(PathBuf::from)
            .or(settings.data_dir)
            .unwrap_or(defaults.data_dir);
        let token_file = (args.token_file.clone()).unwrap_or_else(|| data_dir.join(TOKEN_FILE));
        Ok(Self { api, token_file })
    }
}

fn read(file: Option<&Path>) -> Result<(PathBuf, Settings), CommandError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {
            return Ok((path, Settings::default()));
        }
        read => read.map_err(|error| problem(&path, error.to_string()))?,
    };
    let settings = toml::from_str(&text).map_err(|error: toml::de::Error| {
        // the line is named and not shown: it may hold a key
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.unwrap_or_default().split('\n').count();
        let message = error.message().replace('\n', " ");
        problem(&path, format!("line {line}: {message}"))
    })?;
    Ok((path, settings))
}

/// The environment may have texts as TOML has them.
fn unquoted(value: &str) -> &str {
    let inner = |mark| value.strip_prefix(mark)?.strip_suffix(mark);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn parse(path: PathBuf, listen: &str) -> Result<SocketAddr, CommandError> {
    let wrong = |problem: String| CommandError::Settings { path, problem };
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(wrong(
            "admin.listen has port 0, so that only the server knows which one it has".to_owned(),
        )),
        Ok(address) => Ok(address),
        Err(_) => Err(wrong(format!(
            "admin.listen: {listen:?}: expected ADDRESS:PORT, such as 127.0.0.1:8080"
        ))),
    }
}

fn problem(path: &Path, problem: String) -> CommandError {
    CommandError::Settings {
        path: path.to_owned(),
        problem,
    }
}

/// Who listens on every address is reached on its own machine.
fn reached(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(args: &ApiArgs, env: &[(&str, &str)]) -> Result<Place, String> {
        Place::of(args, |name| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
        .map_err(|error| error.to_string())
    }

    fn with_file(text: &str) -> (tempfile::TempDir, ApiArgs) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cellwise.toml");
        fs::write(&path, text).unwrap();
        let args = ApiArgs {
            config: Some(path),
            ..ApiArgs::default()
        };
        (dir, args)
    }

    const FILE: &str =
        "data_dir = '/var/lib/cellwise'\nfrom_the_future = 1\n[admin]\nlisten = '0.0.0.0:9090'";

    #[test]
    fn the_settings_say_where_the_server_is() {
        let (_dir, args) = with_file(FILE);
        let found = place(&args, &[]).unwrap();
        assert_eq!(found.api, "http://127.0.0.1:9090");
        assert_eq!(found.token_file, Path::new("/var/lib/cellwise/admin.token"));
        let (_dir, args) = with_file("[admin]\nlisten = '[::]:9090'");
        let found = place(&args, &[]).unwrap();
        assert_eq!(found.api, "http://[::1]:9090");
        assert_eq!(found.token_file, Path::new("cellwise-data/admin.token"));
    }

    #[test]
    fn a_server_with_a_certificate_is_asked_over_tls() {
        let file = format!("{FILE}\ntls_certificate = 'a.pem'\ntls_key = 'a.key'");
        let (_dir, args) = with_file(&file);
        assert_eq!(place(&args, &[]).unwrap().api, "https://127.0.0.1:9090");
        let off = [("CELLWISE_ADMIN__TLS_CERTIFICATE", "")];
        assert_eq!(place(&args, &off).unwrap().api, "http://127.0.0.1:9090");
    }

    #[test]
    fn what_was_told_outranks_the_environment_and_that_the_file() {
        let (_dir, mut args) = with_file(FILE);
        let env = [
            ("CELLWISE_DATA_DIR", "/srv"),
            ("CELLWISE_ADMIN__LISTEN", "\"192.0.2.1:80\""),
        ];
        let found = place(&args, &env).unwrap();
        assert_eq!(found.api, "http://192.0.2.1:80");
        assert_eq!(found.token_file, Path::new("/srv/admin.token"));
        args.api = Some("https://iot.example.com/".to_owned());
        args.token_file = Some("/run/token".into());
        let found = place(&args, &env).unwrap();
        assert_eq!(found.api, "https://iot.example.com");
        assert_eq!(found.token_file, Path::new("/run/token"));
    }

    #[test]
    fn a_file_is_not_asked_for_what_was_told() {
        let args = ApiArgs {
            api: Some("http://192.0.2.1:80".to_owned()),
            token: Some("x".to_owned()),
            config: Some("/nowhere/cellwise.toml".into()),
            ..ApiArgs::default()
        };
        assert!(place(&args, &[]).is_ok());
        let missing = ApiArgs { api: None, ..args };
        let error = place(&missing, &[]).unwrap_err();
        assert!(error.starts_with("/nowhere/cellwise.toml: "), "{error}");
        assert!(error.contains("--api"), "{error}");
    }

    #[test]
    fn a_file_that_does_not_say_it_is_told_with_its_name() {
        for (text, expected) in [
            ("admin.listen = '127.0.0.1'", "expected ADDRESS:PORT"),
            ("admin.listen = '127.0.0.1:0'", "port 0"),
            ("shards = 1\nadmin = 7", "line 2: invalid type"),
            ("data_dir = ", "line 1: "),
        ] {
            let (_dir, args) = with_file(text);
            let error = place(&args, &[]).unwrap_err();
            assert!(
                error.contains(expected) && error.contains("cellwise.toml"),
                "{error}"
            );
        }
    }
}
