//! What is wrong, the worst first; findings of one rule stand together.

use stillframe_model::{Evidence, Finding, Location, Report, State};

use super::page::{Lead, Page, Text};
use super::{SEVERITIES, and_more, names, severity_style};
use crate::{Options, words};

const MAX_RULES: usize = 20;
const MAX_PLACES: usize = 5;

/// The column of titles: two of indentation, the longest severity, two between.
const TITLE: usize = 12;

pub(super) fn section(page: &mut Page, report: &Report, options: &Options) {
    if report.findings.is_empty() {
        return;
    }
    page.heading("FINDINGS");
    for severity in SEVERITIES {
        let rules = by_rule(report.findings.iter().filter(|finding| finding.severity == severity));
        let shown = if options.verbose { rules.len() } else { MAX_RULES };
        for (index, findings) in rules.iter().take(shown).enumerate() {
            let name = if index == 0 { words::severity(severity).to_uppercase() } else { String::new() };
            rule(page, &Text::new().with(severity_style(severity), name), findings, options);
        }
        let hidden = rules.iter().skip(shown).map(Vec::len).sum();
        and_more(page, TITLE, hidden, "; --format json lists them all");
    }
    if report.scan.user_paths_masked
        && report.findings.iter().any(|finding| masks_a_person(&finding.location))
    {
        let note = "~ and 8 digits stand for a person's name; --show-user-paths shows names";
        page.paragraph(Lead::indent(2), &Text::new().dim(note));
    }
}

/// Findings of one rule together, in the order in which rules and findings appear.
fn by_rule<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Vec<&'a Finding>> {
    let mut order = std::collections::HashMap::new();
    let mut rules: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        let key = (&finding.rule_id, &finding.title, &finding.remediation);
        let index = *order.entry(key).or_insert(rules.len());
        match rules.get_mut(index) {
            Some(findings) => findings.push(finding),
            None => rules.push(vec![finding]),
        }
    }
    rules
}

fn rule(page: &mut Page, severity: &Text, findings: &[&Finding], options: &Options) {
    let Some(first) = findings.first() else { return };
    let title = Text::new().bold(first.title.as_str()).dim(format!("  [{}]", first.rule_id));
    page.row(Lead::indent(2), severity, TITLE, &title);
    let shown = if options.verbose { findings.len() } else { MAX_PLACES };
    for finding in findings.iter().take(shown) {
        page.paragraph(Lead::hanging(Text::new().plain(" ".repeat(TITLE)).plain("· ")), &place(finding));
    }
    and_more(page, TITLE + 2, findings.len().saturating_sub(shown), " places");
    let remediation = Text::new().plain(first.remediation.as_str());
    page.paragraph(Lead::hanging(Text::new().plain(" ".repeat(TITLE)).bold("→ ")), &remediation);
}

/// `/etc/shadow  disk0/p1, mode 0644`.
fn place(finding: &Finding) -> Text {
    let place = &finding.location;
    let mut text = Text::new();
    if let Some(path) = &place.path {
        text = text.plain(names::path(path.as_str())).plain("  ");
    }
    let mut details = vec![names::name(place.volume.as_str())];
    details.extend(place.volume_path.as_ref().map(|path| format!("there {}", names::path(path.as_str()))));
    let is_owner = |evidence: &Evidence| matches!(evidence, Evidence::Owner { .. });
    if !finding.evidence.iter().any(is_owner) {
        details.extend(place.owner_uid.map(|uid| format!("uid\u{a0}{uid}")));
    }
    details.extend(finding.evidence.iter().map(evidence_words));
    text.dim(details.join(", "))
}

fn evidence_words(evidence: &Evidence) -> String {
    match evidence {
        Evidence::ByteSpan { offset, len_bytes } => format!("{len_bytes}\u{a0}bytes at {offset:#x}"),
        Evidence::Line { number } => format!("line\u{a0}{number}"),
        Evidence::Count { what, count } => format!("{}\u{a0}{what}", super::thousands(*count)),
        Evidence::Mode { bits } => format!("mode\u{a0}{bits:04o}"),
        Evidence::Owner { uid } => format!("uid\u{a0}{uid}"),
        Evidence::Package { name, version } => {
            format!("{} {}", names::name(name.as_str()), names::name(version.as_str()))
        }
        Evidence::Setting { name, required, found } => {
            format!("{name} is {}, should be {}", state_words(found), state_words(required))
        }
        Evidence::Fingerprint { fingerprint } => format!("fingerprint\u{a0}{}", fingerprint.short()),
    }
}

fn state_words(state: &State) -> String {
    match state {
        State::Number(number) => number.to_string(),
        State::Word(word) => word.to_string(),
    }
}

fn masks_a_person(place: &Location) -> bool {
    place.path.as_ref().is_some_and(|path| path.as_str().contains("/~"))
}
