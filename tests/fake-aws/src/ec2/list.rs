//! What all lists have: ids, filters, pages.

use crate::estate::Tags;
use crate::reply::Refusal;
use crate::token;
use crate::world::Scene;

/// The smallest page that may be asked for.
const SHORTEST_PAGE: usize = 5;

/// The values of a resource that a filter is compared with; none where there is no such filter.
pub(super) type Field<'a, T> = &'a dyn Fn(&T, &str) -> Option<Vec<String>>;

/// Keeps what fits all filters.
pub(super) fn filtered<T>(
    scene: &Scene<'_>,
    items: Vec<T>,
    tags: impl Fn(&T) -> &Tags,
    field: Field<'_, T>,
) -> Result<Vec<T>, Refusal> {
    let filters = scene.call.filters();
    let mut kept = Vec::new();
    for item in items {
        let mut fits = true;
        for (name, patterns) in &filters {
            let values = match (name.as_str(), name.strip_prefix("tag:")) {
                (_, Some(key)) => tags(&item).get(key).cloned().into_iter().collect(),
                ("tag-key", _) => tags(&item).keys().cloned().collect(),
                ("tag-value", _) => tags(&item).values().cloned().collect(),
                _ => field(&item, name).ok_or_else(|| {
                    Refusal::new(400, "InvalidParameterValue", format!("The filter '{name}' is invalid"))
                })?,
            };
            fits &= values.iter().any(|value| patterns.iter().any(|pattern| matches(pattern, value)));
        }
        if fits {
            kept.push(item);
        }
    }
    Ok(kept)
}

/// `*` is any text and `?` any character.
fn matches(pattern: &str, value: &str) -> bool {
    let (mut pattern, mut value) = (pattern.chars(), value.chars());
    loop {
        match pattern.next() {
            None => return value.next().is_none(),
            Some('*') => {
                let rest = pattern.as_str();
                let value = value.as_str();
                let ends = value.char_indices().map(|(at, _)| at).chain([value.len()]);
                return ends.into_iter().any(|at| matches(rest, &value[at..]));
            }
            Some('?') => {
                if value.next().is_none() {
                    return false;
                }
            }
            Some(character) => {
                if value.next() != Some(character) {
                    return false;
                }
            }
        }
    }
}

/// What there is to know of a list's ids.
pub(super) struct Ids {
    /// `InstanceId`.
    pub(super) parameter: &'static str,
    /// `i`.
    pub(super) prefix: &'static str,
    /// `InvalidInstanceID.NotFound`.
    pub(super) not_found: &'static str,
    /// `InvalidInstanceID.Malformed`.
    pub(super) malformed: &'static str,
}

/// Keeps the items whose ids are asked for, all where none are. One that is not there fails the call.
pub(super) fn chosen<T>(
    scene: &Scene<'_>,
    items: Vec<T>,
    ids: &Ids,
    id: impl Fn(&T) -> &str,
) -> Result<Vec<T>, Refusal> {
    let wanted = scene.call.list(ids.parameter);
    if wanted.is_empty() {
        return Ok(items);
    }
    if scene.call.value("MaxResults").is_some() {
        let message = format!("MaxResults and {} are not used together", ids.parameter);
        return Err(Refusal::new(400, "InvalidParameterCombination", message));
    }
    for wanted in &wanted {
        if !super::is_id(wanted, ids.prefix) {
            return Err(Refusal::new(400, ids.malformed, format!("Invalid id: \"{wanted}\"")));
        }
        if !items.iter().any(|item| id(item) == wanted) {
            return Err(Refusal::new(400, ids.not_found, format!("The id '{wanted}' does not exist")));
        }
    }
    Ok(items.into_iter().filter(|item| wanted.iter().any(|wanted| id(item) == wanted)).collect())
}

/// A page of a list that is in order of ids, and the token of the next.
pub(super) fn page<T>(
    scene: &mut Scene<'_>,
    mut items: Vec<T>,
    longest: usize,
    id: impl Fn(&T) -> &str,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    let bad = |message: String| Refusal::new(400, "InvalidParameterValue", message);
    let asked = match scene.call.value("MaxResults") {
        Some(value) => Some(value.parse::<usize>().map_err(|_| bad(format!("MaxResults: {value}")))?),
        None => None,
    };
    if asked.is_some_and(|asked| asked < SHORTEST_PAGE) {
        return Err(bad("MaxResults is at least 5".to_owned()));
    }
    let cap = scene.state.estate.settings.describe_page_limit.unwrap_or(usize::MAX).max(1);
    let limit = asked.map_or(usize::MAX, |asked| asked.min(longest)).min(cap);
    let subject = format!("list {} ", scene.call.operation);
    let after = match scene.call.value("NextToken").filter(|token| !token.is_empty()) {
        Some(sealed) => token::open(sealed, scene.now_ms)
            .and_then(|opened| opened.strip_prefix(&subject).map(ToOwned::to_owned))
            .ok_or_else(|| {
                Refusal::new(400, "InvalidPaginationToken", "The token is not valid or has expired")
            })?,
        None => String::new(),
    };
    items.sort_by(|left, right| id(left).cmp(id(right)));
    items.retain(|item| id(item) > after.as_str());
    items.truncate(scene.stale_rows.unwrap_or(usize::MAX));
    let next = if scene.empty_page {
        items.clear();
        Some(after)
    } else if items.len() > limit {
        items.truncate(limit);
        items.last().map(|item| id(item).to_owned())
    } else {
        None
    };
    let expires_ms = scene.now_ms + scene.state.estate.settings.page_token_ms;
    let serial = scene.state.next_serial();
    Ok((items, next.map(|next| token::seal(&format!("{subject}{next}"), expires_ms, serial))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, value, fits) in [
            ("web-*", "web-1", true),
            ("web-*", "web-", true),
            ("web-?", "web-", false),
            ("*b*1", "web-1", true),
            ("running", "running", true),
            ("run", "running", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, value), fits, "{pattern} {value}");
        }
    }
}
