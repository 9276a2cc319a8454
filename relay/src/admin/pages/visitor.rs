//! Who looks at a page, as far as the page has to know, logged in or not.

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

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// As the browser says.
    #[default]
    Auto,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Theme {
    /// All themes, in the order of the switch.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Light, Self::Dark];

    /// The name in addresses, cookies and style sheets.
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

/// What every request on the admin listener carries as an extension.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// In which language to answer.
    pub language: Language,
    /// In which colours.
    pub theme: Theme,
    /// What was asked for.
    pub uri: Uri,
    /// From where.
    pub address: IpAddr,
    /// By which scheme.
    pub scheme: Scheme,
}

impl Visitor {
    /// Who makes this request, by what the listener found out about it.
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

    /// The address of this page with another value of one of its parameters.
    pub fn with_parameter(&self, name: &str, value: &str) -> String {
        with_parameters(&self.uri, |given| given == name, Some((name, value)))
    }

    /// One parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }
}

/// Takes the switches for language and colours from the address (`?lang=es`, `?theme=dark`) into cookies, and leads to
/// the address without them. They are links, so that they work without scripts and before the login.
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
    // More than one slash at the beginning would name another host.
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
