use clap::{Args, Parser, Subcommand};

use super::*;

const LAYERS: Layers = Layers {
    prefixes: &["PROGRAM_", "OLD_"],
    configurable: &["run"],
    typed_only: &[],
    alternatives: &[],
    blank_is_absent: true,
};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Chosen,
}

#[derive(Debug, Subcommand)]
enum Chosen {
    /// Run
    Run(Run),
}

#[derive(Debug, Args, PartialEq, Eq)]
#[command(next_help_heading = "General")]
struct Run {
    /// Address to listen on [default: any]
    #[arg(long, value_name = "ADDR")]
    bind: Option<String>,
    /// Clients that may connect
    #[arg(long, value_name = "N", default_value = "7")]
    clients: u32,
    /// Whether clients learn the version
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    open: Option<String>,
    /// Hosts of the pages
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    host: Option<Vec<String>>,
    /// Log every request
    #[arg(long)]
    verbose: bool,
    /// The file with the settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The settings of `run` with these typed words, these variables and this file.
fn read(
    words: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<(Run, Origins), SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program.toml");
    let mut argv: Vec<OsString> =
        ["program", "run"].into_iter().chain(words.iter().copied()).map(Into::into).collect();
    if let Some(file) = file {
        fs::write(&path, file).unwrap();
        argv.extend(["--config".into(), path.into()]);
    }
    let find =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    let Settings { cli, origins } = LAYERS.read::<Cli>(argv, find, None)?;
    let Chosen::Run(run) = cli.command;
    Ok((run, origins))
}

#[test]
fn every_value_says_where_it_comes_from() {
    let file = Some("\nclients = 9\nhost = ['a', 'b']\nopen = true\nverbose = true\nbind = 'file'\n");
    let (run, origins) = read(&["--bind", "typed"], &[("OLD_CLIENTS", "8")], file).unwrap();
    assert_eq!((run.bind.as_deref(), run.clients), (Some("typed"), 8));
    assert_eq!((run.open.as_deref(), run.verbose), (Some("true"), true));
    assert_eq!(run.host, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(origins.of("--bind"), None, "a typed flag needs no explanation");
    assert_eq!(origins.of("clients"), Some(&Origin::Variable("OLD_CLIENTS".to_owned())));
    let Some(Origin::File { path, line: 3 }) = origins.of("host") else { panic!("{origins:?}") };
    assert!(path.ends_with("program.toml"));
}

#[test]
fn blanks_are_absent_in_every_layer() {
    let file = Some("bind = 'file'\nclients = ''\nhost = ['', 'b']\n");
    for words in [["--bind", ""], ["--bind= ", "--clients="]] {
        let (run, origins) = read(&words, &[("PROGRAM_BIND", " "), ("PROGRAM_OPEN", "")], file).unwrap();
        assert_eq!((run.bind.as_deref(), run.clients, run.open), (Some("file"), 7, None));
        assert_eq!(run.host, Some(vec!["b".to_owned()]));
        assert!(matches!(origins.of("bind"), Some(Origin::File { line: 1, .. })));
    }
}

#[test]
fn a_wrong_value_is_reported_with_its_file_and_line_or_its_variable() {
    let error = |environment: &[(&str, &str)], file| read(&[], environment, file).unwrap_err().to_string();
    for (file, line, message) in [
        ("\nclients = 'many'", 2, "invalid value 'many' for '--clients <N>'"),
        ("clients = 1\nclints = 2", 2, "unknown key \"clints\""),
        ("config = 'other.toml'", 1, "unknown key \"config\""),
        ("\n\nbind = 1.5", 3, "bind must be text"),
        ("bind = true", 1, "bind must be text"),
        ("verbose = 'x'", 1, "verbose must be true or false"),
        ("bind = ['a', 'b']", 1, "cannot be used multiple times"),
    ] {
        let error = error(&[], Some(file));
        let (path, rest) = error.split_once(" line ").unwrap();
        assert!(path.ends_with("program.toml"), "{error}");
        assert!(rest.starts_with(&format!("{line}: ")) && rest.contains(message), "{error}");
    }
    assert!(error(&[], Some("bind = \n")).contains("(line 1)"));
    let odd = error(&[("PROGRAM_CLIENTS", "many")], None);
    assert!(odd.starts_with("PROGRAM_CLIENTS: invalid value 'many'"), "{odd}");
    let odd = error(&[("OLD_VERBOSE", "perhaps")], None);
    assert_eq!(odd, "OLD_VERBOSE: verbose must be true or false");
    let typed = read(&["--clients", "many"], &[], None).unwrap_err();
    assert!(matches!(&typed, SettingsError::Typed(_)), "{typed}");
    assert!(typed.to_string().starts_with("invalid value 'many'"), "{typed}");
}

#[test]
fn an_error_of_the_configuration_is_located_by_its_flags() {
    #[derive(Debug, thiserror::Error)]
    #[error("--bind: expected an address")]
    struct Wrong;

    impl OfSetting for Wrong {
        fn flags(&self) -> &[&'static str] {
            &["--bind"]
        }
    }

    let located = |words: &[&str], environment: &[(&str, &str)]| {
        read(words, environment, None).unwrap().1.locate(Wrong).to_string()
    };
    let variable = [("PROGRAM_BIND", "x")];
    assert_eq!(located(&[], &variable), "PROGRAM_BIND: --bind: expected an address");
    assert_eq!(located(&["--bind", "y"], &variable), "--bind: expected an address");
}

#[test]
fn the_page_of_settings_has_flag_variable_default_and_meaning() {
    let settings = LAYERS.settings::<Cli>();
    let page = reference("# Settings\n", &settings, &LAYERS);
    for row in [
        "## General\n",
        "| `bind` | `--bind ADDR` | `PROGRAM_BIND` | `any` | Address to listen on |",
        "| `clients` | `--clients N` | `PROGRAM_CLIENTS` | `7` | Clients that may connect |",
        "| `verbose` | `--verbose` | `PROGRAM_VERBOSE` |  | Log every request |",
    ] {
        assert!(page.contains(row), "{page}");
    }
    let example = example("# Example\n", &settings, &[("bind", "\"here\"")]);
    assert!(example.contains("# Address to listen on [default: any]\nbind = \"here\"\n"), "{example}");
    assert!(example.contains("\n#clients = 7\n") && example.contains("\n#host = [\"NAME\"]\n"), "{example}");
}
