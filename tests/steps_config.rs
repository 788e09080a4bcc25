//! Steps as a configuration writes them: `if` beside a step, and mistakes with their place.
//!
//! The whole way from TOML to built components, with the registry of the daemon.

use std::path::Path;

use marline::config::files::File;
use marline::config::{Loaded, Purpose, load_file};
use marline::service::cli::registry;

fn load(step: &str) -> Loaded {
    let text = format!(
        "[source.in]\ntype = \"socket\"\nlisten = [\"tcp://127.0.0.1:5514\"]\n\
         [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\nsteps = [{step}]\n\
         [sink.out]\ntype = \"discard\"\n"
    );
    let file = File::new(Path::new("test.toml"), text.into());
    load_file(file, &registry(), &|_| None, Purpose::Check)
}

#[test]
fn any_step_may_have_a_condition() {
    let loaded = load("{ set = { a = 1 }, if = '.b == 1' }, { sample = 2 }");
    let (config, _) = loaded.config.unwrap_or_else(|| panic!("{}", loaded.report));
    let conditions = config.pipelines[0]
        .steps
        .iter()
        .map(|step| step.condition.as_deref());
    assert_eq!(conditions.collect::<Vec<_>>(), [Some(".b == 1"), None]);
}

#[test]
fn mistakes_in_steps_point_at_the_place() {
    let check = |step: &str, line: &str, words: &[&str]| {
        let loaded = load(step);
        assert_eq!(loaded.mistakes, 1, "{}", loaded.report);
        let caret = loaded
            .report
            .lines()
            .position(|shown| shown.contains('^'))
            .unwrap();
        let column = loaded.report.lines().nth(caret).unwrap().find('^').unwrap();
        let source = loaded.report.lines().nth(caret - 1).unwrap();
        let from = source.char_indices().map(|(at, _)| at).nth(column).unwrap();
        assert!(source[from..].starts_with(line), "{}", loaded.report);
        for word in words {
            assert!(
                loaded.report.contains(word),
                "no {word} in\n{}",
                loaded.report
            );
        }
    };
    check(
        "{ sample = 2, if = '.b = 1' }",
        "= 1",
        &["cannot assign", "`==`"],
    );
    check("{ drop_if = '.b = 1' }", "= 1", &["cannot assign"]);
    check("{ if = '.b == 1' }", "{ if", &["expected a step"]);
    check("{ if = 1, sample = 2 }", "1", &["string"]);
    check(
        "{ sample = 2, remove = [] }",
        "remove",
        &["a step is one key"],
    );
    check("{ parse = { regex = 'a(' } }", "(", &["unclosed group"]);
    check("{ set = { a = \"x{{ %y }}\" } }", "%y", &["%source"]);
    check("{ rename = { a = \".b.c\" } }", ".b.c", &["top-level"]);
    check(
        "{ dedupe = { fields = [\"a\", \"b c\"] } }",
        "b c",
        &["no path"],
    );
}
