//! MySQL endpoints in both forms: a URL, and go-sql-driver's `user:password@tcp(host:port)/name`.

use super::{
    Address, Login, MysqlEndpoint,
    database::database_name,
    query::{self, Argument, Values, argument},
    url,
};

/// Of go-sql-driver/mysql.
const ARGUMENTS: &[Argument] = &[
    argument(
        "tls",
        Values::OneOf(&["true", "false", "skip-verify", "preferred"]),
    ),
    argument("timeout", Values::Any),
    argument("readTimeout", Values::Any),
    argument("writeTimeout", Values::Any),
    argument("parseTime", Values::Flag),
    argument("charset", Values::Any),
    argument("collation", Values::Any),
    argument("loc", Values::Any),
    argument("interpolateParams", Values::Flag),
    argument("multiStatements", Values::Flag),
    argument("clientFoundRows", Values::Flag),
    argument("maxAllowedPacket", Values::Number),
    argument("allowNativePasswords", Values::Flag),
    argument("allowCleartextPasswords", Values::Flag),
    argument("checkConnLiveness", Values::Flag),
    argument("rejectReadOnly", Values::Flag),
];

/// Whether an endpoint is written in go-sql-driver's form: an address in parentheses.
pub(super) fn is_go_form(text: &str) -> bool {
    ["tcp(", "unix("].iter().any(|network| {
        text.match_indices(network)
            .any(|(at, _)| text.get(..at).is_some_and(ends_like_login))
    })
}

/// The network stands at the start or behind the login's `@`.
fn ends_like_login(before: &str) -> bool {
    before.is_empty() || before.ends_with('@') || before.ends_with("://")
}

pub(super) fn parse(rest: &str) -> Result<MysqlEndpoint, Vec<String>> {
    if is_go_form(rest) {
        go_form(rest)
    } else {
        url_form(rest)
    }
}

fn url_form(rest: &str) -> Result<MysqlEndpoint, Vec<String>> {
    let url = url::split(rest);
    let authority = if url.authority.is_empty() {
        "localhost"
    } else {
        url.authority
    };
    let address = url::host(authority, Some(3306));
    endpoint(address, url.login, url.path, url.query)
}

/// `[user[:password]@]network(address)/name[?arguments]`, split from the end, as the driver does,
/// because a password may hold any character.
fn go_form(rest: &str) -> Result<MysqlEndpoint, Vec<String>> {
    let Some((target, tail)) = rest.rsplit_once(')') else {
        return Err(vec!["a `(` without a `)`".into()]);
    };
    let (path, arguments) = match tail.split_once('?') {
        Some((path, arguments)) => (path, Some(arguments)),
        None => (tail, None),
    };
    let at = ["@tcp(", "@unix("]
        .iter()
        .filter_map(|network| target.rfind(network));
    let (login, target) = match at.max() {
        Some(at) => (target.get(..at), target.get(at + 1..).unwrap_or_default()),
        None => (None, target),
    };
    let address = match target.split_once('(') {
        Some(("unix", path)) => Ok(Address::Socket(path.to_owned())),
        Some((_, host)) => url::host(host, Some(3306)),
        None => Err("a `)` without a `(`".into()),
    };
    let login = login.map(Login::from_plain);
    endpoint(address, login, path.strip_prefix('/'), arguments)
}

fn endpoint(
    address: Result<Address, String>,
    login: Option<Login>,
    path: Option<&str>,
    arguments: Option<&str>,
) -> Result<MysqlEndpoint, Vec<String>> {
    let (arguments, mut faults) = query::read(arguments, ARGUMENTS);
    match address {
        Ok(address) if faults.is_empty() => Ok(MysqlEndpoint {
            address,
            login,
            database: database_name(path),
            arguments,
        }),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}
