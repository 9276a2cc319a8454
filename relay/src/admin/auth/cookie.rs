//! The cookie that holds a browser's session.

use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};

use crate::{model::secret::Secret, net::client::Scheme};

/// Name of the cookie over TLS. Because of the prefix, browsers refuse the cookie unless it is `Secure`, belongs to
/// this host alone and is valid for all its paths (RFC 6265bis, section 4.1.3.2), so no neighbouring host can set one.
const SECURE_NAME: &str = "__Host-audiovault";
/// Name of the cookie over plain HTTP, where browsers would refuse the prefix.
const PLAIN_NAME: &str = "audiovault";

/// The session cookie in the form that one scheme allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCookie {
    secure: bool,
}

impl SessionCookie {
    /// The cookie for clients that use this scheme.
    pub fn over(scheme: Scheme) -> Self {
        Self { secure: scheme == Scheme::Https }
    }

    /// The name of the cookie.
    pub fn name(self) -> &'static str {
        if self.secure { SECURE_NAME } else { PLAIN_NAME }
    }

    /// The session in a request's cookies, if there is one.
    pub fn read(self, jar: &CookieJar) -> Option<Secret> {
        Secret::parse(jar.get(self.name())?.value())
    }

    /// A cookie that gives a session to the browser until the browser is closed. When the session ends is stored in
    /// the relay's database, not in the cookie.
    pub fn set(self, session: &Secret) -> Cookie<'static> {
        self.with_value(session.reveal().to_string())
    }

    /// A cookie that removes the session from the browser.
    pub fn clear(self) -> Cookie<'static> {
        let mut cookie = self.with_value(String::new());
        cookie.make_removal();
        cookie
    }

    fn with_value(self, value: String) -> Cookie<'static> {
        Cookie::build((self.name(), value))
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.secure)
            .path("/")
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_has_every_protection_that_its_scheme_allows() {
        let session = Secret::mint();
        let secret = session.reveal();
        let over_tls = SessionCookie::over(Scheme::Https).set(&session).to_string();
        let expected =
            format!("__Host-audiovault={}; HttpOnly; SameSite=Strict; Secure; Path=/", secret.as_str());
        assert_eq!(over_tls, expected);
        let plain = SessionCookie::over(Scheme::Http).set(&session).to_string();
        assert_eq!(plain, format!("audiovault={}; HttpOnly; SameSite=Strict; Path=/", secret.as_str()));
        let cleared = SessionCookie::over(Scheme::Https).clear().to_string();
        assert!(cleared.contains("Max-Age=0") && cleared.contains("Secure"), "{cleared}");
    }

    #[test]
    fn a_cookie_of_the_other_scheme_is_none() {
        let session = Secret::mint();
        let jar = CookieJar::new().add(SessionCookie::over(Scheme::Http).set(&session));
        assert!(SessionCookie::over(Scheme::Http).read(&jar).is_some());
        assert!(SessionCookie::over(Scheme::Https).read(&jar).is_none());
    }
}
