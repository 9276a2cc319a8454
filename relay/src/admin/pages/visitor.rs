//! What a page knows about the client, whether it is logged in or not.

use std::net::IpAddr;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use http::{HeaderMap, Method, Uri, header};

use super::Language;
use crate::net::client::{ClientAddress, Scheme};

const LANGUAGE_COOKIE: &str = "audiovault-language";
const THEME_COOKIE: &str = "audiovault-theme";

/// The colours of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// As the browser is set.
    #[default]
    Auto,
    /// Dark text on a light background.
    Light,
    /// Light text on a dark background.
    Dark,
}

impl Theme {
    /// All themes, in the order in which the switch shows them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// The name of the theme in addresses, cookies and style sheets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|theme| theme.as_str() == text)
    }
}

/// What is known about the client. Every request to the admin listener has it as an extension.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// The language of the response.
    pub language: Language,
    /// The theme of the response.
    pub theme: Theme,
    /// The requested address.
    pub uri: Uri,
    /// The client's IP address.
    pub address: IpAddr,
    /// The scheme of the request.
    pub scheme: Scheme,
}

impl Visitor {
    /// Collects what the request and the listener tell about the client.
    pub fn of(request: &Request, peer: IpAddr) -> Self {
        let extensions = request.extensions();
        let jar = CookieJar::from_headers(request.headers());
        let cookie = |name: &str| jar.get(name).map(|cookie| cookie.value().to_owned());
        Self {
            language: cookie(LANGUAGE_COOKIE)
                .and_then(|tag| Language::of_tag(&tag))
                .unwrap_or_else(|| preferred(request.headers())),
            theme: cookie(THEME_COOKIE).and_then(|text| Theme::of(&text)).unwrap_or_default(),
            uri: request.uri().clone(),
            address: extensions.get::<ClientAddress>().map_or(peer, |client| client.0),
            scheme: extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http),
        }
    }

    /// The address of this page with a new value for one parameter.
    pub fn with_parameter(&self, name: &str, value: &str) -> String {
        with_parameters(&self.uri, |given| given == name, Some((name, value)))
    }

    /// The value of one parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// Stores a switch of language or theme from the address (`?lang=es`, `?theme=dark`) in a cookie, and redirects to the
/// address without it. The switches are links, so they work without scripts and before the login.
pub async fn preferences(request: Request, next: Next) -> Response {
    let switched = match request.extensions().get::<Visitor>() {
        Some(visitor) if request.method() == Method::GET => switches(visitor),
        _ => Vec::new(),
    };
    if switched.is_empty() {
        return next.run(request).await;
    }
    let bare = with_parameters(request.uri(), |name| matches!(name, "lang" | "theme"), None);
    let mut response = Redirect::to(&bare).into_response();
    for cookie in switched {
        if let Ok(value) = cookie.to_string().parse() {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

fn switches(visitor: &Visitor) -> Vec<Cookie<'static>> {
    let language = visitor.parameter("lang").and_then(|tag| Language::of_tag(&tag));
    let theme = visitor.parameter("theme").and_then(|text| Theme::of(&text));
    let cookie = |name: &'static str, value: &'static str| {
        Cookie::build((name, value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(visitor.scheme == Scheme::Https)
            .permanent()
            .build()
    };
    let language = language.map(|language| cookie(LANGUAGE_COOKIE, language.tag()));
    language.into_iter().chain(theme.map(|theme| cookie(THEME_COOKIE, theme.as_str()))).collect()
}

fn preferred(headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    accepted.map(Language::preferred).unwrap_or_default()
}

fn with_parameters(uri: &Uri, drop: impl Fn(&str) -> bool, add: Option<(&str, &str)>) -> String {
    let query = uri.query().unwrap_or_default();
    let mut kept = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if !drop(&name) {
            kept.append_pair(&name, &value);
        }
    }
    if let Some((name, value)) = add {
        kept.append_pair(name, value);
    }
    let query = kept.finish();
    // With more than one slash at the beginning, browsers would read the path as another host.
    let path = format!("/{}", uri.path().trim_start_matches('/'));
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_keeps_the_rest_of_the_address_and_never_leaves_the_host() {
        let changed = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            with_parameters(&uri, |name| name == "lang", Some(("lang", "es")))
        };
        assert_eq!(changed("/audit?site=acme&lang=en&q=a%26b"), "/audit?site=acme&q=a%26b&lang=es");
        assert_eq!(changed("/"), "/?lang=es");
        assert_eq!(changed("//evil.example/x"), "/evil.example/x?lang=es");
    }
}
