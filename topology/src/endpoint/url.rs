//! The parts of a URL, as far as endpoints use them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Address, Login};

/// All but the unreserved characters (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Encodes whatever could mean something in a URL.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_are_decoded_and_encoded() {
        for (text, decoded) in [
            ("a%20b%2fc%2Fd", "a b/c/d"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%c3%a9", "é"),
            ("%ff", "\u{fffd}"),
            ("a+b", "a+b"),
        ] {
            assert_eq!(decode(text), decoded, "{text}");
        }
        assert_eq!(encode("aZ09-._~"), "aZ09-._~");
        assert_eq!(encode("a b/é%:@?#+"), "a%20b%2F%C3%A9%25%3A%40%3F%23%2B");
    }
}
