//! The texts that an operator copies elsewhere after adding a site: the properties for QueueMetrics, and the command
//! that starts the agent.

use audiovault_protocol::identity::{
    enrolment::EnrolmentCode,
    site::{SiteId, SiteKey},
};
use zeroize::Zeroizing;

use crate::net::public_url::PublicUrl;

/// Used while the relay's address is not configured: people see that it is not real, and no such host can exist.
pub const UNKNOWN_RELAY: &str = "https://relay.invalid";

/// The directory in which the agent command keeps its secrets.
const SECRETS_DIR: &str = "/etc/audiovault-agent";

/// The block of `configuration.properties` with which QueueMetrics searches a site's recordings, as in the tutorial of
/// AudioVault.
pub fn properties(url: &PublicUrl, site: &SiteId, search_token: &str) -> String {
    format!(
        "audio.server=it.loway.app.queuemetrics.callListen.listeners.JsonListener\n\
         audio.jsonlistener.url={}\n\
         audio.jsonlistener.method=POST\n\
         audio.jsonlistener.searchtoken={search_token}\n\
         audio.jsonlistener.verbose=false\n\
         audio.html5player=true\n",
        url.search(site)
    )
}

/// A shell command that writes the secrets to files that only their owner can read, and starts the agent. The shell
/// itself writes them (`printf` is a builtin), so that no process has them in its argument list. If there is no token,
/// its file already exists.
pub fn agent_command(url: &PublicUrl, key: &SiteKey, search_token: Option<&str>) -> Zeroizing<String> {
    let revealed = Zeroizing::new(key.reveal());
    let mut command = Zeroizing::new(format!(
        "(umask 077 && mkdir -p {SECRETS_DIR} && printf '%s\\n' '{}' > {SECRETS_DIR}/site-key",
        *revealed
    ));
    if let Some(token) = search_token {
        command.push_str(&format!(" && printf '%s\\n' '{token}' > {SECRETS_DIR}/search-token"));
    }
    command.push_str(") && \\\n");
    command.push_str(&agent_start(url));
    command
}

/// The shell command that starts an agent whose secrets are already in their files.
pub fn agent_start(url: &PublicUrl) -> String {
    let mut command = format!(
        "audiovault-agent tunnel --relay '{}' \\\n  \
         --site-key-file {SECRETS_DIR}/site-key --token-file {SECRETS_DIR}/search-token \\\n  \
         --path 'file:/var/spool/asterisk/monitor/%YY/%MM/%DD'",
        url.relay()
    );
    command.push_str(plaintext_flag(url));
    command
}

/// The shell command that installs an agent. The agent trades the code for its site key by itself. The code is in the
/// argument list of the process, where a key must not be: it is worthless once the command has ended.
pub fn agent_install(url: &PublicUrl, code: &EnrolmentCode) -> String {
    format!("audiovault-agent install --relay '{}' --enroll {code}{}", url.relay(), plaintext_flag(url))
}

/// The agent sends its secrets without TLS only if this flag says that it is intended.
fn plaintext_flag(url: &PublicUrl) -> &'static str {
    if url.is_secure() || url.is_loopback() { "" } else { " --allow-plaintext" }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn url(text: &str) -> PublicUrl {
        text.parse().unwrap()
    }

    fn key() -> SiteKey {
        SiteKey::from_secret(SiteId::parse("acme").unwrap(), [7; 32])
    }

    #[test]
    fn the_properties_are_those_of_the_tutorial() {
        let site = SiteId::parse("acme").unwrap();
        assert_eq!(
            properties(&url("https://relay.example.com"), &site, "t0k3n"),
            "audio.server=it.loway.app.queuemetrics.callListen.listeners.JsonListener\n\
             audio.jsonlistener.url=https://relay.example.com/acme/search\n\
             audio.jsonlistener.method=POST\n\
             audio.jsonlistener.searchtoken=t0k3n\n\
             audio.jsonlistener.verbose=false\n\
             audio.html5player=true\n"
        );
    }

    #[test]
    fn the_command_is_valid_shell_and_keeps_secrets_out_of_arguments() {
        for token in [Some("t0k3n"), None] {
            let command = agent_command(&url("https://relay.example.com/av"), &key(), token);
            let parsed = Command::new("sh").args(["-n", "-c", command.as_str()]).output().unwrap();
            assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
            let (_, agent) = command.split_once("audiovault-agent tunnel").unwrap();
            assert!(!agent.contains(&key().reveal()) && !agent.contains("t0k3n"), "{agent}");
            assert!(agent.contains("--relay 'wss://relay.example.com/av'"), "{agent}");
            assert!(!agent.contains("--allow-plaintext"), "{agent}");
            assert_eq!(command.contains("> /etc/audiovault-agent/search-token"), token.is_some());
        }
    }

    #[test]
    fn plain_text_is_asked_for_only_where_it_leaves_the_machine() {
        let away = agent_command(&url("http://relay.example.com"), &key(), None);
        assert!(away.contains("'ws://relay.example.com'") && away.ends_with("--allow-plaintext"));
        let here = agent_command(&url("http://127.0.0.1:8080"), &key(), None);
        assert!(!here.contains("--allow-plaintext"));
        let code = EnrolmentCode::parse("7K2M-QX4D-09RB").unwrap();
        let install = agent_install(&url("https://relay.example.com"), &code);
        assert_eq!(
            install,
            "audiovault-agent install --relay 'wss://relay.example.com' --enroll 7K2M-QX4D-09RB"
        );
        assert!(agent_install(&url("http://relay.example.com"), &code).ends_with(" --allow-plaintext"));
    }
}
