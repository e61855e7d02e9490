//! Where the queen is: `http://host[:port][/base]`.

use hyper::Uri;

/// The parsed URL of a queen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueenUrl {
    /// `host[:port]`, as it was written.
    authority: String,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// Empty, or a path that starts with a slash and does not end in one.
    base: String,
}

/// A text that does not say where a queen is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQueenUrl {
    /// It is no URL.
    #[error("{0:?} is not a URL such as http://127.0.0.1:7833")]
    Form(String),
    /// It needs TLS.
    #[error(
        "https is not built in: put a proxy that speaks TLS in front, and give its http:// URL"
    )]
    Https,
    /// It needs another protocol.
    #[error("{0}:// is not spoken here; a queen's URL starts with http://")]
    Scheme(String),
    /// The port is no number from 1 to 65535.
    #[error("{0:?} is not a port: a number from 1 to 65535")]
    Port(String),
    /// It carries a user name or a password.
    #[error("a queen's URL carries no user name or password")]
    Credentials,
    /// It carries a query.
    #[error("a queen's URL ends with its path, without ?{0}")]
    Query(String),
}

impl QueenUrl {
    /// `host[:port]` as it was written: the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The name or address to connect to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to; 80 unless the URL says otherwise.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands before every path: empty, or `/base` without a slash at the end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl std::str::FromStr for QueenUrl {
    type Err = InvalidQueenUrl;

    fn from_str(url: &str) -> Result<Self, InvalidQueenUrl> {
        let form = || InvalidQueenUrl::Form(url.chars().take(256).collect());
        let (scheme, rest) = url.split_once("://").ok_or_else(form)?;
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(InvalidQueenUrl::Https),
            _ => return Err(InvalidQueenUrl::Scheme(scheme.to_owned())),
        }
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        if authority.as_str().contains('@') {
            return Err(InvalidQueenUrl::Credentials);
        }
        if let Some(query) = uri.query() {
            return Err(InvalidQueenUrl::Query(query.to_owned()));
        }
        let host = authority.host();
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            None => 80,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(InvalidQueenUrl::Port(port.to_owned())),
                Ok(port) => port,
            },
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(form());
        }
        Ok(Self {
            authority: authority.as_str().to_owned(),
            host: host.to_owned(),
            port,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl std::fmt::Display for QueenUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> Result<QueenUrl, InvalidQueenUrl> {
        url.parse()
    }

    #[test]
    fn the_parts_of_a_url() {
        let url = parse("http://127.0.0.1:7833").unwrap();
        assert_eq!((url.host(), url.port(), url.base()), ("127.0.0.1", 7833, ""));
        assert_eq!(url.address(), "127.0.0.1:7833");
        let url = parse("HTTP://queen.example/telemetry/").unwrap();
        assert_eq!((url.host(), url.port(), url.base()), ("queen.example", 80, "/telemetry"));
        assert_eq!(url.to_string(), "http://queen.example/telemetry");
        let url = parse("http://[::1]:7833/").unwrap();
        assert_eq!((url.host(), url.port(), url.base()), ("::1", 7833, ""));
        assert_eq!((url.authority(), url.address().as_str()), ("[::1]:7833", "[::1]:7833"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(parse("https://queen.example"), Err(InvalidQueenUrl::Https));
        assert_eq!(parse("unix://x"), Err(InvalidQueenUrl::Scheme("unix".into())));
        assert_eq!(parse("http://h:99999"), Err(InvalidQueenUrl::Port("99999".into())));
        assert_eq!(parse("http://h:0"), Err(InvalidQueenUrl::Port("0".into())));
        assert_eq!(parse("http://me:secret@h"), Err(InvalidQueenUrl::Credentials));
        assert_eq!(parse("http://h/?a=b"), Err(InvalidQueenUrl::Query("a=b".into())));
        for text in ["127.0.0.1:7833", "", "http://", "http:///x", "http://a b"] {
            assert!(matches!(parse(text), Err(InvalidQueenUrl::Form(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_or_an_error(text in "(http://)?\\PC{0,40}") {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()).unwrap(), url);
            }
        }
    }
}
