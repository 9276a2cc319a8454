//! The configuration of an installed agent, which is built from the flags of `install`.

use std::{borrow::Cow, collections::BTreeMap, fs, io, path::PathBuf};

use audiovault_agent_core::secret::Secret;
use audiovault_common::advice::Advice;
use audiovault_common::settings::Typed;
use toml::{Table, Value};

use super::{DENY, Layout, SEARCH_TOKEN, SITE_KEY, enrol::Enrolment};

/// Flags that name a file, and the name of its copy in the configuration's directory. A flag that holds a secret itself
/// is replaced by the flag with `-file`.
const COPIED: [(&str, &str); 9] = [
    ("site-key-file", SITE_KEY),
    ("token-file", SEARCH_TOKEN),
    ("tenants", "tenants.json"),
    ("proxy-credentials-file", "proxy-credentials"),
    ("cacert", "cacert.pem"),
    ("link-secret-file", "link-secret"),
    ("deny", DENY),
    ("dialect", "dialect.toml"),
    ("cdr-password-file", "cdr-password"),
];
/// Flags that hold a secret. The secret goes into the file of the same flag with `-file`.
const SECRETS: [&str; 2] = ["site-key", "token"];
/// Bytes of a generated search token: 160 bits, in 32 characters.
const TOKEN_LEN: usize = 20;

const HEAD: &str = "\
# The agent reads this file again when it changes. `audiovault-agent config example` prints every possible key, and
# `audiovault-agent config check` checks this file.
";

const NOTHING_DENIED: &str = "\
# Recordings that the agent must not serve, one rule per line: a call id, or a file name or path with wildcards.
# Changes take effect at once. If you remove a rule, its recordings are served again.
#   1711441902.17
#   *34911223344*
#   2024/03/26/ceo-*.wav";

/// A new configuration. Files have the paths that they will have on the machine.
#[derive(Debug)]
pub struct Fresh {
    /// The content of the configuration file, which names the files below.
    pub config: String,
    /// Secrets and certificates in the same directory: name and content.
    pub files: Vec<(&'static str, Secret)>,
    /// Whether the search token among them was generated just now.
    pub drawn: bool,
    /// The enrolment that gives the site key; without it, the key is among the files.
    pub enrolment: Option<Enrolment>,
}

impl Fresh {
    /// The search token, if there is one.
    pub fn token(&self) -> Option<&Secret> {
        self.files.iter().find(|(name, _)| *name == SEARCH_TOKEN).map(|(_, token)| token)
    }
}

/// A file that the configuration names cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .0.display())]
pub struct Unreadable(PathBuf, #[source] io::Error);

impl Advice for Unreadable {
    fn advice(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// Builds the configuration that corresponds to these flags. Secrets and certificates are copied to its directory,
/// where only the agent can read them. If no token or tenant could search, a search token is generated. An audit log,
/// an index and a deny list are configured, unless the flags name others.
///
/// # Errors
/// [`Unreadable`].
pub fn fresh(typed: Vec<Typed>) -> Result<Fresh, Unreadable> {
    let mut table = Table::new();
    let mut files = BTreeMap::new();
    for Typed { flag, values } in typed {
        let beside = |name: &str| Value::from(Layout::directory().join(name).display().to_string());
        let first = values.first().cloned().unwrap_or_default();
        let secret_of = SECRETS.contains(&flag.as_str()).then(|| format!("{flag}-file"));
        let copied = secret_of.as_deref().unwrap_or(&flag);
        if let Some((_, name)) = COPIED.iter().find(|(known, _)| *known == copied) {
            let content = match secret_of {
                Some(_) => Secret::new(first),
                None => Secret::new(read(first.into())?),
            };
            files.insert(*name, content);
            table.insert(copied.to_owned(), beside(name));
        } else {
            table.insert(flag, value(&values));
        }
    }
    let drawn = !files.contains_key(SEARCH_TOKEN) && !table.contains_key("tenants");
    if drawn {
        let token = data_encoding::BASE32_NOPAD.encode(&rand::random::<[u8; TOKEN_LEN]>()).to_lowercase();
        files.insert(SEARCH_TOKEN, Secret::new(token));
        let path = Layout::directory().join(SEARCH_TOKEN);
        table.insert("token-file".to_owned(), Value::from(path.display().to_string()));
    }
    let key = Layout::directory().join(SITE_KEY).display().to_string();
    table.insert("site-key-file".to_owned(), Value::from(key));
    if !files.contains_key(DENY) {
        files.insert(DENY, Secret::new(NOTHING_DENIED));
        let path = Layout::directory().join(DENY);
        table.insert(DENY.to_owned(), Value::from(path.display().to_string()));
    }
    let own = [
        ("audit-log", Layout::audit_log()),
        ("index", Layout::index()),
        ("state-file", Layout::state_file()),
    ];
    for (key, path) in own {
        table.entry(key).or_insert(Value::from(path.display().to_string()));
    }
    Ok(Fresh { config: format!("{HEAD}{table}"), files: files.into_iter().collect(), drawn, enrolment: None })
}

fn read(path: PathBuf) -> Result<String, Unreadable> {
    let text = fs::read_to_string(&path).map_err(|error| Unreadable(path, error))?;
    // It is written with one line end.
    Ok(text.trim_end().to_owned())
}

/// A value as people would write it: a single one as it is, several as a list, numbers and switches without quotes.
fn value(values: &[String]) -> Value {
    let one = |text: &String| match text.as_str() {
        "true" => Value::Boolean(true),
        text => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::Integer),
    };
    match values {
        [text] => one(text),
        list => Value::Array(list.iter().map(one).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(flags: &[(&str, &[&str])]) -> Vec<Typed> {
        let one = |(flag, values): &(&str, &[&str])| Typed {
            flag: (*flag).to_owned(),
            values: values.iter().map(ToString::to_string).collect(),
        };
        flags.iter().map(one).collect()
    }

    #[test]
    fn flags_become_keys_and_secrets_become_files() {
        let flags = typed(&[
            ("relay", &["wss://relay.example"]),
            ("path", &["file:/a", "file:/b"]),
            ("connections", &["2"]),
            ("allow-plaintext", &["true"]),
            ("token", &["the-search-token"]),
            ("site-key", &["avk_acme_x"]),
        ]);
        let fresh = fresh(flags).unwrap();
        let table: Table = toml::from_str(&fresh.config).unwrap();
        assert_eq!(table["relay"].as_str(), Some("wss://relay.example"));
        assert_eq!(table["path"].as_array().unwrap().len(), 2);
        assert_eq!(
            (table["connections"].as_integer(), table["allow-plaintext"].as_bool()),
            (Some(2), Some(true))
        );
        assert_eq!(table["token-file"].as_str(), Some("/etc/audiovault-agent/search-token"));
        assert_eq!(table["site-key-file"].as_str(), Some("/etc/audiovault-agent/site-key"));
        assert!(!fresh.config.contains("the-search-token") && !fresh.config.contains("avk_acme_x"));
        let names: Vec<_> = fresh.files.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["deny", "search-token", "site-key"]);
        assert_eq!(table["deny"].as_str(), Some("/etc/audiovault-agent/deny"));
        assert_eq!(table["audit-log"].as_str(), Some("/var/log/audiovault-agent/audit.jsonl"));
    }

    #[test]
    fn a_token_is_drawn_where_no_client_could_search() {
        let drawn = |flags: &[(&str, &[&str])]| fresh(typed(flags)).unwrap().files;
        let [_, (name, token)] = &drawn(&[("relay", &["wss://relay.example"])])[..] else {
            panic!("two files")
        };
        assert_eq!((*name, token.reveal().len()), ("search-token", 32));
        let dir = tempfile::tempdir().unwrap();
        let tenants = dir.path().join("tenants");
        fs::write(&tenants, "[]").unwrap();
        let files = drawn(&[("tenants", &[tenants.to_str().unwrap()])]);
        assert_eq!(files[1].0, "tenants.json");
        assert!(fresh(typed(&[("tenants", &["/nowhere"])])).unwrap_err().to_string().contains("/nowhere"));
    }
}
