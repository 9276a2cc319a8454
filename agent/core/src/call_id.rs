//! Which texts are call ids, and how an id is found in a file name.
//!
//! An id must identify one call: `400` would find every call of queue 400, and `20240326` all calls of a day.

use std::sync::LazyLock;

use audiovault_protocol::recording::call;
use regex::Regex;

/// `<epoch>.<n>` as Asterisk makes it, with or without a system name or server before it. The epoch has 9 to 11
/// digits: from 1973 until long after this program. `_` may replace the dot, as in one variant of Yeastar.
const ASTERISK: &str =
    r"^(?:(?P<server>[A-Za-z0-9][A-Za-z0-9._-]{0,62})-)?(?P<epoch>\d{9,11})[._](?P<n>\d{1,10})$";
/// A UUID (RFC 9562, section 4) as FreeSWITCH makes it, with or without a server before it.
const UUID: &str = r"^(?:(?P<server>[A-Za-z0-9][A-Za-z0-9._-]{0,62})-)?(?P<id>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$";
/// The `uid` of a call on a Yeastar P-Series: date and time in 14 digits, then 4 to 6 hexadecimal digits. The
/// `callid` of every Yeastar has Asterisk's form.
const YEASTAR: &str = r"^(?:19|20)\d{12}[0-9A-Fa-f]{4,6}$";

/// Why a text is not a call id. The message does not repeat the text, because it may be a telephone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a call id; send an Asterisk unique id such as 1711444502.17, a UUID, a Yeastar id, or an id \
     that the agent's --call-id allows"
)]
pub struct CallIdError;

/// The rules for call ids: the built-in forms, and the admin's own form.
#[derive(Debug, Clone, Default)]
pub struct CallIdRules {
    custom: Option<Regex>,
}

impl PartialEq for CallIdRules {
    fn eq(&self, other: &Self) -> bool {
        self.custom.as_ref().map(Regex::as_str) == other.custom.as_ref().map(Regex::as_str)
    }
}

impl CallIdRules {
    /// Also accepts texts that `expression` matches from the first to the last character.
    ///
    /// # Errors
    /// [`regex::Error`] if the expression is not valid.
    pub fn with_custom(expression: &str) -> Result<Self, regex::Error> {
        Ok(Self { custom: Some(Regex::new(&format!("^(?:{expression})$"))?) })
    }

    /// Whether the admin accepts more than the built-in forms.
    pub(crate) fn has_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Parses a call id.
    ///
    /// # Errors
    /// [`CallIdError`] if no rule accepts the text.
    pub fn parse(&self, text: &str) -> Result<CallId, CallIdError> {
        static FORMS: LazyLock<Option<[Regex; 3]>> = LazyLock::new(|| {
            Some([Regex::new(ASTERISK).ok()?, Regex::new(UUID).ok()?, Regex::new(YEASTAR).ok()?])
        });
        let Some([asterisk, uuid, yeastar]) = FORMS.as_ref() else { return Err(CallIdError) };
        let text = text.trim();
        if let Some(found) = asterisk.captures(text) {
            let needle = format!("{}.{}", &found["epoch"], &found["n"]);
            let epoch = found["epoch"].parse().ok();
            return Ok(CallId::new(text, &needle, found.name("server").map(|m| m.as_str()), epoch));
        }
        if let Some(found) = uuid.captures(text) {
            return Ok(CallId::new(text, &found["id"], found.name("server").map(|m| m.as_str()), None));
        }
        let custom = self.custom.as_ref().is_some_and(|custom| !text.is_empty() && custom.is_match(text));
        if yeastar.is_match(text) || custom {
            return Ok(CallId::new(text, text, None, None));
        }
        Err(CallIdError)
    }
}

/// The id of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId {
    text: String,
    needle: Vec<u8>,
    server: Option<String>,
    epoch: Option<i64>,
}

impl CallId {
    fn new(text: &str, needle: &str, server: Option<&str>, epoch: Option<i64>) -> Self {
        Self {
            text: text.to_owned(),
            needle: needle.bytes().map(call::fold).collect(),
            server: server.map(str::to_owned),
            epoch,
        }
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id without the server in front of it.
    pub fn bare(&self) -> &str {
        self.server.as_ref().and_then(|server| self.text.get(server.len() + 1..)).unwrap_or(&self.text)
    }

    /// The text to look for in file names: in lower case, with `.` in place of `_`.
    pub fn needle(&self) -> &[u8] {
        &self.needle
    }

    /// The server in the id's prefix. It selects the directories, and is not searched for in file names.
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// When the call began, in seconds since the Unix epoch, if the id contains it.
    pub fn epoch(&self) -> Option<i64> {
        self.epoch
    }

    /// Whether the id occurs in a file name, by the rules of [`call::stands_in`].
    pub fn stands_in(&self, name: &[u8]) -> bool {
        call::stands_in(&self.needle, name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> CallId {
        CallIdRules::default().parse(text).unwrap()
    }

    #[test]
    fn ids_of_every_known_pbx_are_read() {
        assert_eq!(id("1711444502.17").epoch(), Some(1_711_444_502));
        assert_eq!(id("1711444502_17").epoch(), Some(1_711_444_502));
        assert_eq!(id("999999999.1").epoch(), Some(999_999_999));
        let prefixed = id("pbx1-1711444502.17");
        assert_eq!((prefixed.server(), prefixed.epoch()), (Some("pbx1"), Some(1_711_444_502)));
        assert_eq!(id("my.pbx-eu-1711444502.17").server(), Some("my.pbx-eu"));
        assert_eq!(id("3D5F2A52-2f4c-4f4e-8d59-1c2f6b8f8a11").epoch(), None);
        assert_eq!(id("fs1-3d5f2a52-2f4c-4f4e-8d59-1c2f6b8f8a11").server(), Some("fs1"));
        assert!(id("202201131409043E81A").stands_in(b"20220113-202201131409043e81a.wav"));
    }

    #[test]
    fn what_would_match_half_a_disk_is_not_an_id() {
        let bad = [
            "",
            ".",
            "400",
            "20240326",
            "1711444502",
            "1711444502.",
            ".17",
            "17114445.17",
            "171144450222.17",
            "../1711444502.17",
            "a/b-1711444502.17",
            "1711444502.17.wav",
            "1711444502,17",
            "3d5f2a52",
            "-1711444502.17",
            "20220113140904",
            "1711444502.17 or 1",
        ];
        for text in bad {
            assert_eq!(CallIdRules::default().parse(text), Err(CallIdError), "{text:?}");
        }
    }

    #[test]
    fn the_operator_may_admit_more() {
        let rules = CallIdRules::with_custom("CALL[0-9]{6}|X").unwrap();
        assert!(rules.parse("CALL000123").unwrap().stands_in(b"rec_call000123_out.mp3"));
        assert!(rules.parse("CALL0001234").is_err() && rules.parse("aX").is_err());
        assert!(CallIdRules::with_custom(".*").unwrap().parse("").is_err());
        assert!(CallIdRules::with_custom("(").is_err());
    }

    #[test]
    fn an_id_stands_at_token_boundaries_only() {
        let call = id("1629882000.1");
        for name in [
            "out-100-200-20210825-110000-1629882000.1.wav",
            "1629882000.1.WAV",
            "x_1629882000_1_y.wav",
            "mikopbx-1629882000.1_Ab3.webm",
            "pbx1-1629882000.1-in.wav",
            "1629882000.17-1629882000.1.wav",
            "20210825110000-1629882000_1-100-200-Inbound.wav",
        ] {
            assert!(call.stands_in(name.as_bytes()), "{name}");
        }
        for name in [
            "1629882000.17.wav",
            "11629882000.1.wav",
            "q1629882000.1.wav",
            "1629882000-1.wav",
            "",
            "1629882000.",
        ] {
            assert!(!call.stands_in(name.as_bytes()), "{name}");
        }
        assert!(call.stands_in(b"\xff\xfe1629882000.1\xff.wav"), "names need not be UTF-8");
    }

    proptest! {
        #[test]
        fn matching_agrees_with_splitting_into_tokens(n in 0u32..40, other in 0u32..4000, lead in "[a-z0-9._-]{0,3}", tail in "[a-z0-9._-]{0,3}") {
            let call = id(&format!("1629882000.{n}"));
            let name = format!("{lead}1629882000.{other}{tail}");
            let naive = Regex::new(&format!(r"(^|[^a-z0-9])1629882000[._]{n}([^a-z0-9]|$)")).unwrap();
            prop_assert_eq!(call.stands_in(name.as_bytes()), naive.is_match(&name));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}", name in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(call) = CallIdRules::with_custom(".+").unwrap().parse(&text) {
                call.stands_in(&name);
            }
        }
    }
}
