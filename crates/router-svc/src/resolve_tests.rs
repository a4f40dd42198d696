//! Every rule of the resolution, and what must hold for any name.

use config::Config;
use proptest::prelude::*;

use super::*;

fn table(change: impl FnOnce(&mut Config)) -> Table {
    let mut config = Config::default();
    change(&mut config);
    Table::build(&config).expect("a good configuration")
}

fn ask<'a>(model: &'a str, agent: &'a str, key_allows: &'a [String]) -> Question<'a> {
    Question { model, agent, key_allows }
}

fn names(routes: &[Route]) -> Vec<&str> {
    routes.iter().map(|route| route.model.as_str()).collect()
}

fn routes(table: &Table, model: &str) -> Vec<Route> {
    resolve(table, ask(model, "main", &[]), &mut Steps::off()).expect("a route")
}

fn refused(table: &Table, question: Question<'_>) -> Refused {
    resolve(table, question, &mut Steps::off()).expect_err("refused")
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn codex_prefixes_are_one_route_on_the_right_path() {
    let table = table(|_| {});
    for (name, rule) in [
        ("openai-codex/gpt-5.5", "provider openai-codex"),
        ("codex/gpt-5.5", "alias codex -> openai-codex"),
        ("codex-cli/gpt-5.5", "alias codex-cli -> openai-codex"),
        ("Codex/gpt-5.5", "alias codex -> openai-codex"),
        ("gpt-5.5", "bare name -> default provider openai-codex"),
        ("", "default model; provider openai-codex"),
    ] {
        let route = Route {
            model: "openai-codex/gpt-5.5".into(),
            provider: "openai-codex".into(),
            upstream_model: "gpt-5.5".into(),
            target: "chatgpt-codex".into(),
            realm: "subscription".into(),
            url: "https://chatgpt.com/backend-api/codex/responses".into(),
            fallback: false,
            credentials: vec![],
            rule: rule.into(),
            egress: None,
        };
        assert_eq!(routes(&table, name), [route], "{name}");
    }
}

#[test]
fn api_keys_are_another_realm_and_unlisted_models_resolve() {
    let found = routes(&table(|_| {}), "openai/gpt-77-Preview");
    let route = found.first().expect("one");
    assert_eq!((route.realm.as_str(), route.target.as_str()), ("api-key", "openai-api"));
    assert_eq!(route.url, "https://api.openai.com/v1/responses");
    assert_eq!(route.upstream_model, "gpt-77-Preview", "the model's case is the upstream's affair");
}

#[test]
fn an_agent_has_its_own_model_fallbacks_and_credentials() {
    let table = table(|c| {
        c.defaults.fallbacks = words(&["openai/gpt-5.5"]);
        let agent = c.agents.entry("main".into()).or_default();
        agent.model = Some("codex/gpt-5.4-mini".into());
        agent.credentials = Some(words(&["work", "home"]));
        c.agents.entry("alone".into()).or_default().fallbacks = Some(vec![]);
    });
    let found = routes(&table, "");
    assert_eq!(names(&found), ["openai-codex/gpt-5.4-mini", "openai/gpt-5.5"]);
    let rules: Vec<_> = found.iter().map(|route| (route.rule.as_str(), route.fallback)).collect();
    assert_eq!(
        rules,
        [
            ("model of agent main; alias codex -> openai-codex", false),
            ("fallback 1 of the defaults; provider openai", true)
        ]
    );
    assert!(found.iter().all(|route| route.credentials == ["work", "home"]));
    let alone = resolve(&table, ask("", "alone", &[]), &mut Steps::off()).expect("a route");
    assert_eq!(names(&alone), ["openai-codex/gpt-5.5"], "an empty list of its own means none, not the defaults'");
    let stranger = resolve(&table, ask("", "stranger", &[]), &mut Steps::off()).expect("a route");
    assert_eq!(names(&stranger), ["openai-codex/gpt-5.5", "openai/gpt-5.5"]);
}

#[test]
fn fallbacks_follow_an_asked_model_less_those_that_came_before() {
    let table = table(|c| c.defaults.fallbacks = words(&["codex/gpt-5.5", "openai/gpt-5.5", "openai/gpt-5.5", "x"]));
    assert_eq!(names(&routes(&table, "gpt-5.5")), ["openai-codex/gpt-5.5", "openai/gpt-5.5", "openai-codex/x"]);
    assert_eq!(names(&routes(&table, "openai/gpt-5.5")), ["openai/gpt-5.5", "openai-codex/gpt-5.5", "openai-codex/x"]);
}

#[test]
fn no_fallbacks_means_none() {
    assert_eq!(routes(&table(|_| {}), "codex/gpt-5.5").len(), 1);
}

#[test]
fn both_lists_must_allow_and_the_refusing_one_is_named() {
    let table = table(|c| {
        c.defaults.fallbacks = words(&["openai/gpt-5.5", "openai-codex/gpt-5.4-mini"]);
        c.agents.entry("main".into()).or_default().allowed = Some(words(&["codex/*"]));
    });
    assert_eq!(
        names(&routes(&table, "codex/gpt-5.5")),
        ["openai-codex/gpt-5.5", "openai-codex/gpt-5.4-mini"],
        "a fallback that is not allowed is left out"
    );
    let no = refused(&table, ask("openai/gpt-5.5", "main", &[]));
    assert_eq!(no.reason, Reason::AgentNotAllowed);
    assert!(no.message.contains("[agents.main] allowed (openai-codex/*)"), "{}", no.message);

    let key = words(&["codex-cli/gpt-5.4-mini", "openai/*"]);
    let found = resolve(&table, ask("gpt-5.4-mini", "main", &key), &mut Steps::off()).expect("in both lists");
    assert_eq!(names(&found), ["openai-codex/gpt-5.4-mini"]);
    let no = refused(&table, ask("", "main", &key));
    assert_eq!(no.reason, Reason::AgentNotAllowed, "a default outside the list is refused like any other");
    assert!(no.message.contains("this agent's key (openai-codex/gpt-5.4-mini, openai/*)"), "{}", no.message);
    refused(&table, ask("openai/gpt-5.5", "main", &key));
    refused(&table, ask("gpt-5.5", "main", &words(&[""])));
    resolve(&table, ask("gpt-5.5", "main", &words(&["*"])), &mut Steps::off()).expect("all are allowed");
}

#[test]
fn an_unknown_prefix_lists_the_nearest_names_that_are_open_to_the_agent() {
    let table = table(|_| {});
    let no = refused(&table, ask("opneai/GPT-5.5", "main", &[]));
    assert_eq!(no.reason, Reason::RouteUnknown);
    assert_eq!(no.nearest, ["openai/GPT-5.5", "openai/gpt-5.5", "openai-codex/gpt-5.5"]);
    assert_eq!(
        no.message,
        "no route for model \"opneai/GPT-5.5\": no provider or alias \"opneai\"; the nearest known names are \
         openai/GPT-5.5, openai/gpt-5.5, openai-codex/gpt-5.5"
    );
    let failure = no.into_failure();
    assert_eq!((failure.service.as_str(), failure.param.as_deref()), ("router-svc", Some("model")));
    let no = refused(&table, ask("anthropic/claude", "main", &words(&["openai/*"])));
    assert_eq!(no.nearest, ["openai/gpt-5.5"]);
}

#[test]
fn a_malformed_name_is_the_callers_mistake() {
    let table = table(|_| {});
    for name in ["a b", "/x", "codex/", "codex/*", "a/\u{1b}[31m", &"ü".repeat(500)] {
        let no = refused(&table, ask(name, "main", &[]));
        assert_eq!(no.reason, Reason::RequestInvalid, "{name}");
        assert!(!no.message.contains('\u{1b}') && no.message.len() < 400, "{}", no.message);
    }
}

#[test]
fn steps_tell_the_whole_story() {
    let table = table(|c| {
        c.defaults.fallbacks = words(&["openai/gpt-5.5", "codex/new", "codex/gpt-5.4-mini"]);
        c.agents.entry("main".into()).or_default().allowed = Some(words(&["codex/*"]));
    });
    let mut steps = Steps::on();
    resolve(&table, ask("codex/new", "main", &[]), &mut steps).expect("a route");
    assert_eq!(
        steps.into_lines(),
        [
            "agent \"main\" has its table in the configuration",
            "\"codex/new\" -> openai-codex/new (alias codex -> openai-codex)",
            "openai-codex/new is not under [models]; the name goes upstream as it is",
            "allowed: the agent's list is openai-codex/*; its key's is none, all models",
            "openai-codex/new (alias codex -> openai-codex) -> target chatgpt-codex, subscription -> \
             https://chatgpt.com/backend-api/codex/responses",
            "fallback openai/gpt-5.5 left out: it is not in [agents.main] allowed (openai-codex/*)",
            "fallback openai-codex/new left out: that route comes before it",
            "fallback openai-codex/gpt-5.4-mini (fallback 3 of the defaults; alias codex -> openai-codex) -> target \
             chatgpt-codex, subscription -> https://chatgpt.com/backend-api/codex/responses",
        ]
    );
}

proptest! {
    #[test]
    fn any_text_is_answered(
        model in ".{0,300}", agent in ".{0,20}", key in prop::collection::vec(".{0,20}", 0..3), fallback in "[a-z/*]{0,12}",
    ) {
        let mut config = Config::default();
        config.defaults.fallbacks = vec![fallback];
        // A configuration that is refused was answered as well.
        let table = Table::build(&config).or_else(|_| Table::build(&Config::default())).expect("the defaults are good");
        let mut steps = Steps::on();
        let with_steps = resolve(&table, ask(&model, &agent, &key), &mut steps);
        let without = resolve(&table, ask(&model, &agent, &key), &mut Steps::off());
        prop_assert_eq!(&with_steps, &without, "explaining changes nothing");
        match with_steps {
            Ok(found) => prop_assert!(!found.is_empty() && !steps.into_lines().is_empty()),
            Err(no) => prop_assert!(no.message.len() < 1000 && !no.message.contains('\n')),
        }
    }

    #[test]
    fn every_spelling_of_the_prefix_is_the_same_route(model in "[A-Za-z0-9._:-]{1,40}", upper: bool, index in 0..3usize) {
        let table = table(|c| c.defaults.fallbacks = words(&["openai/gpt-5.5"]));
        let prefix = ["codex", "codex-cli", "openai-codex"].get(index).copied().unwrap_or("codex");
        let prefix = if upper { prefix.to_uppercase() } else { prefix.to_owned() };
        let mut found = routes(&table, &format!("{prefix}/{model}"));
        let mut bare = routes(&table, &model);
        found.iter_mut().chain(&mut bare).for_each(|route| route.rule.clear());
        prop_assert_eq!(found, bare);
    }

    #[test]
    fn what_resolves_is_allowed(model in "(codex|openai|openai-codex)/(gpt-5.5|gpt-5|o)", key in "(codex|openai)/(gpt-5.5|gpt-5\\*|\\*)") {
        let table = table(|c| c.defaults.fallbacks = words(&["openai/gpt-5.5", "codex/gpt-5"]));
        let key = vec![key];
        if let Ok(found) = resolve(&table, ask(&model, "main", &key), &mut Steps::off()) {
            let canonical: Vec<_> = key.iter().map(|pattern| table.names.pattern(pattern)).collect();
            for route in found {
                let name = ModelRef::parse(&route.model).expect("canonical");
                prop_assert!(name.allowed_by(&canonical));
            }
        }
    }
}
