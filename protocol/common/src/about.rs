//! What a program says about itself: on its command line, in its log, and on the landing page at its address.

use std::fmt;

use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Response, header};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The name of the product, which the tutorials of AudioVault ask admins to look for.
const PRODUCT: &str = "AudioVault";
/// The style sheet of the page. The page's security policy names it by its digest (CSP Level 3, section 2.3.1).
const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0;padding:12vh 1.5rem}\
                     main{max-width:34rem;margin:auto}h1{font-size:1.5rem}dl{display:grid;grid-template-columns:max-content 1fr;\
                     gap:.25rem 1.5rem}dt{opacity:.7}dd{margin:0;overflow-wrap:anywhere}";

/// A program and its build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The program's name, such as `audiovault-agent`.
    pub name: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// The commit that it was built from, if known.
    pub commit: Option<&'static str>,
    /// When it was built, in RFC 3339, if known.
    pub built: Option<String>,
    /// Whether the compiler optimized it.
    pub optimized: bool,
}

/// What an address serves, and therefore what its landing page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Recordings of this site itself.
    Agent,
    /// Access to the recordings of other sites.
    Relay,
}

/// How much of [`About`] unauthenticated clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShownVersion {
    /// Version, commit and build time.
    #[default]
    Shown,
    /// Only the name.
    Hidden,
}

impl About {
    /// A program from the texts that its build script passes on. An empty commit or an empty time, in seconds since
    /// 1970, means that it is not known. `level` is the compiler's level of optimization (`OPT_LEVEL`).
    pub fn new(
        name: &'static str,
        version: &'static str,
        commit: &'static str,
        built: &str,
        level: &str,
    ) -> Self {
        let built = built.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        Self {
            name,
            version,
            commit: Some(commit).filter(|commit| !commit.is_empty()),
            built: built.map(|built| built.to_string()),
            optimized: level != "0",
        }
    }

    /// Warns in the log if a release of the program was built without optimization. The profile `release` compiles
    /// quickly, for the demo; it is easy to install such a program by mistake.
    pub fn warn_of_slow_build(&self) {
        if !self.optimized && !cfg!(debug_assertions) {
            tracing::warn!(
                code = "program.not_optimized",
                "this program was built without optimization, so it needs several times the processor time; build it \
                 with cargo build --profile dist"
            );
        }
    }

    /// The landing page, or the same as JSON if `Accept` (RFC 9110, section 12.5.1) names JSON and not HTML. The page
    /// is in Spanish if `Accept-Language` begins with Spanish, otherwise in English.
    pub fn landing(&self, purpose: Purpose, shown: ShownVersion, asked: &HeaderMap) -> Response<String> {
        let text =
            |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let accept = text(header::ACCEPT).to_ascii_lowercase();
        let wants_json = accept.contains("application/json") && !accept.contains("text/html");
        let spanish = text(header::ACCEPT_LANGUAGE).trim_start().to_ascii_lowercase().starts_with("es");
        let words = if spanish { &SPANISH } else { &ENGLISH };
        let (kind, body) = match wants_json {
            true => ("application/json", self.json(shown)),
            false => ("text/html; charset=utf-8", self.page(purpose, shown, words)),
        };
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            BASE64.encode(&Sha256::digest(STYLE))
        );
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::VARY, HeaderValue::from_static("accept, accept-language"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }

    fn json(&self, shown: ShownVersion) -> String {
        let mut object = json!({ "product": PRODUCT, "name": self.name });
        if shown == ShownVersion::Shown {
            object["version"] = self.version.into();
            object["commit"] = self.commit.into();
            object["built"] = self.built.as_deref().into();
        }
        object.to_string()
    }

    fn page(&self, purpose: Purpose, shown: ShownVersion, words: &Words) -> String {
        let rows = [
            (words.program, Some(self.name)),
            (words.version, Some(self.version)),
            (words.commit, self.commit),
            (words.built, self.built.as_deref()),
        ];
        let shown = if shown == ShownVersion::Shown { &rows[..] } else { &rows[..1] };
        let known = shown.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        let rows: String = known.map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
        let text = match purpose {
            Purpose::Agent => words.agent,
            Purpose::Relay => words.relay,
        };
        format!(
            "<!doctype html><html lang=\"{}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"><title>{PRODUCT}</title><style>{STYLE}</style></head>\
             <body><main><h1>{PRODUCT}</h1><p>{text}</p><dl>{rows}</dl></main></body></html>",
            words.language
        )
    }
}

impl fmt::Display for About {
    /// The text that `--version` prints after the name: `0.1.0 (commit 0123456789ab, built 2026-11-30T08:00:00Z)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version)?;
        let commit = self.commit.map(|commit| format!("commit {commit}"));
        let built = self.built.as_ref().map(|built| format!("built {built}"));
        let parts: Vec<String> = [commit, built].into_iter().flatten().collect();
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}

/// The texts of the page in one language.
struct Words {
    language: &'static str,
    agent: &'static str,
    relay: &'static str,
    program: &'static str,
    version: &'static str,
    commit: &'static str,
    built: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    agent: "This server finds and delivers call recordings for QueueMetrics. Enter its address in the settings of \
            QueueMetrics; there is nothing to see here in a browser.",
    relay: "This server passes searches for call recordings on to the sites that keep them. Enter the address of your site in \
            the settings of QueueMetrics; there is nothing to see here in a browser.",
    program: "Program",
    version: "Version",
    commit: "Commit",
    built: "Built",
};

const SPANISH: Words = Words {
    language: "es",
    agent: "Este servidor busca y entrega grabaciones de llamadas para QueueMetrics. Introduzca su dirección en los ajustes \
            de QueueMetrics; en un navegador no hay nada que ver aquí.",
    relay: "Este servidor pasa las búsquedas de grabaciones de llamadas a las sedes que las guardan. Introduzca la dirección \
            de su sede en los ajustes de QueueMetrics; en un navegador no hay nada que ver aquí.",
    program: "Programa",
    version: "Versión",
    commit: "Commit",
    built: "Compilado",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About::new("audiovault-agent", "1.2.3", "0123456789ab", "1796025600", "3")
    }

    fn landing(shown: ShownVersion, accept: &'static str, language: &'static str) -> (String, String) {
        let asked = HeaderMap::from_iter([
            (header::ACCEPT, HeaderValue::from_static(accept)),
            (header::ACCEPT_LANGUAGE, HeaderValue::from_static(language)),
        ]);
        let response = about().landing(Purpose::Agent, shown, &asked);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        (kind, response.into_body())
    }

    #[test]
    fn a_program_states_its_version_commit_and_build_time() {
        assert_eq!(about().to_string(), "1.2.3 (commit 0123456789ab, built 2026-11-30T08:00:00Z)");
        assert_eq!(About::new("x", "1.2.3", "", "", "3").to_string(), "1.2.3");
        assert_eq!(About::new("x", "1.2.3", "ab", "", "3").to_string(), "1.2.3 (commit ab)");
    }

    #[test]
    fn a_browser_gets_a_page_and_a_script_json() {
        let (kind, page) = landing(ShownVersion::Shown, "text/html,application/xhtml+xml,*/*;q=0.8", "en-GB");
        assert_eq!(kind, "text/html; charset=utf-8");
        for part in
            ["<h1>AudioVault</h1>", "lang=\"en\"", "audiovault-agent", "1.2.3", "0123456789ab", "2026-11-30"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
        let (kind, json) = landing(ShownVersion::Shown, "application/json", "");
        assert_eq!(kind, "application/json");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["version"], "1.2.3");
        assert_eq!(json["built"], "2026-11-30T08:00:00Z");
    }

    #[test]
    fn the_page_is_in_the_readers_language() {
        let (_, page) = landing(ShownVersion::Shown, "text/html", "es-AR,es;q=0.9,en;q=0.8");
        assert!(
            page.contains("lang=\"es\"") && page.contains("Compilado") && page.contains("grabaciones"),
            "{page}"
        );
    }

    #[test]
    fn a_hidden_version_is_not_shown_to_clients() {
        for accept in ["text/html", "application/json"] {
            let (_, text) = landing(ShownVersion::Hidden, accept, "en");
            assert!(text.contains("audiovault-agent") && text.contains("AudioVault"), "{text}");
            assert!(
                !text.contains("1.2.3") && !text.contains("0123456789ab") && !text.contains("2026"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_page_keeps_to_its_own_policy() {
        let response = about().landing(Purpose::Relay, ShownVersion::Shown, &HeaderMap::new());
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        let style =
            response.body().split_once("<style>").unwrap().1.split_once("</style>").unwrap().0.to_owned();
        assert!(policy.contains(&BASE64.encode(&Sha256::digest(style))), "{policy}");
    }
}
