//! The parts of a URL, as far as endpoints use them.

use super::{Address, Login};

/// `user:password@authority/path?query`, split and with names and passwords decoded.
#[derive(Debug)]
pub(super) struct Url<'t> {
    pub(super) login: Option<Login>,
    /// Host and port as written.
    pub(super) authority: &'t str,
    /// Behind the slash; `None` where there is none.
    pub(super) path: Option<&'t str>,
    pub(super) query: Option<&'t str>,
}

/// Splits what is behind the `://`.
pub(super) fn split(text: &str) -> Url<'_> {
    let (text, query) = match text.split_once('?') {
        Some((text, query)) => (text, Some(query)),
        None => (text, None),
    };
    // A password that was not encoded may hold a slash: the last `@` before the path decides.
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    Url {
        login: user.map(Login::from_url),
        authority,
        path,
        query,
    }
}

/// Reads `host`, `host:port` or `[v6]:port`.
pub(super) fn host(authority: &str, default_port: Option<u16>) -> Result<Address, String> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest
                .split_once(']')
                .ok_or("a `[` without a `]` in the host")?;
            if name.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("the text in brackets is not an IPv6 address".into());
            }
            (name, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    if name.is_empty() || !name.chars().all(is_host) {
        return Err("no valid host; write `host:port`".into());
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => default_port,
    };
    let port = port.ok_or("no valid port; write `host:port`")?;
    Ok(Address::Host(name.to_owned(), port))
}

/// Replaces `%XX`. Anything else stays: a stray `%` is more likely a password than a mistake.
pub(super) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, next @ ..]) if let Some(byte) = hex(*high, *low) => {
                out.push(byte);
                rest = next;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Encodes whatever could mean something in a URL.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
