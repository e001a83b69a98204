//! The tags that our snapshots are created with, and by which they are found again.
//!
//! `CreatedBy` alone proves nothing: another product uses the same value. A snapshot is ours when it bears that *and* a
//! scan id of ours.

use jiff::Timestamp;

use crate::api::{Filter, Tags};

/// Says who made the snapshot.
pub const CREATED_BY: &str = "CreatedBy";
/// What it says unless the configuration says otherwise.
pub const DEFAULT_CREATED_BY: &str = "Microsoft Defender for Cloud";
/// Says which scan.
pub const SCAN_ID: &str = "stillframe:scan-id";
/// Says which instance.
pub const INSTANCE_ID: &str = "stillframe:instance-id";
/// Says from when on anyone may delete it.
pub const EXPIRES_AT: &str = "stillframe:expires-at";
/// On an instance or a volume: leave it alone.
pub const EXCLUDE: &str = "stillframe:exclude";

/// A resource has at most 50 tags, four of which are ours.
const USER_TAGS_AT_MOST: usize = 46;

/// A scan's name: 8 to 64 of `a-z`, `0-9` and `-`. It names a file too, so nothing else is let in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScanId(String);

impl ScanId {
    /// A name that no other scan has; `None` where the system gives no random bytes.
    #[must_use]
    pub fn random() -> Option<Self> {
        let (high, low) = (getrandom::u64().ok()?, getrandom::u64().ok()?);
        Some(Self(format!("{high:016x}{low:016x}")))
    }

    /// `None` where `text` is no scan's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let named = (8..=64).contains(&text.len()) && text.bytes().all(allowed);
        named.then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ScanId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why user tags cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// One of our own keys, or `aws:…`.
    #[error("the tag {key:?} is reserved")]
    Reserved {
        /// The key.
        key: String,
    },
    /// Too long, or empty.
    #[error("the tag {key:?} is longer than the cloud allows (128 for a key, 256 for a value), or empty")]
    Length {
        /// The key.
        key: String,
    },
    /// Too many.
    #[error("{count} tags are too many: {USER_TAGS_AT_MOST} can be added to ours")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Whether the cloud would take these beside ours; asked before anything is created.
///
/// # Errors
/// [`TagError`] with the first that it would not take.
pub fn check_user_tags(user: &Tags) -> Result<(), TagError> {
    if user.len() > USER_TAGS_AT_MOST {
        return Err(TagError::TooMany { count: user.len() });
    }
    for (key, value) in user {
        if key == CREATED_BY || key.starts_with("stillframe:") || key.to_ascii_lowercase().starts_with("aws:")
        {
            return Err(TagError::Reserved { key: key.clone() });
        }
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(TagError::Length { key: key.clone() });
        }
    }
    Ok(())
}

/// All tags of a snapshot to be created. Ours win over the user's.
#[must_use]
pub fn creation_tags(
    created_by: &str,
    scan: &ScanId,
    instance_id: &str,
    expires_at: Timestamp,
    user: &Tags,
) -> Tags {
    let mut tags = user.clone();
    tags.insert(CREATED_BY.to_owned(), created_by.to_owned());
    tags.insert(SCAN_ID.to_owned(), scan.to_string());
    tags.insert(INSTANCE_ID.to_owned(), instance_id.to_owned());
    tags.insert(EXPIRES_AT.to_owned(), whole_seconds(expires_at).to_string());
    tags
}

/// Which scan of ours a snapshot with these tags belongs to; `None` where it is not ours.
#[must_use]
pub fn scan_of(tags: &Tags, created_by: &str) -> Option<ScanId> {
    if tags.get(CREATED_BY).is_none_or(|by| by != created_by) {
        return None;
    }
    ScanId::parse(tags.get(SCAN_ID)?)
}

/// From when on anyone may delete it; `None` where the tag is missing or no time.
#[must_use]
pub fn expires_at(tags: &Tags) -> Option<Timestamp> {
    tags.get(EXPIRES_AT)?.parse().ok()
}

/// What finds the snapshots of one scan.
#[must_use]
pub fn filters_of_scan(created_by: &str, scan: &ScanId) -> [Filter; 2] {
    [tag_filter(CREATED_BY, created_by), tag_filter(SCAN_ID, scan.as_str())]
}

/// What finds the snapshots of all our scans.
#[must_use]
pub fn filters_of_all(created_by: &str) -> [Filter; 2] {
    let scan_id = Filter { name: "tag-key".to_owned(), values: vec![SCAN_ID.to_owned()] };
    [tag_filter(CREATED_BY, created_by), scan_id]
}

fn tag_filter(key: &str, value: &str) -> Filter {
    Filter { name: format!("tag:{key}"), values: vec![value.to_owned()] }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_the_promised_ones_and_ours_win() {
        let scan = ScanId::parse("0123456789abcdef").unwrap();
        let user = Tags::from([("team".into(), "blue".into()), ("CreatedBy".into(), "me".into())]);
        let at = "2026-07-01T10:00:00.75Z".parse().unwrap();
        let tags = creation_tags(DEFAULT_CREATED_BY, &scan, "i-1", at, &user);
        let expected = [
            ("CreatedBy", "Microsoft Defender for Cloud"),
            ("stillframe:expires-at", "2026-07-01T10:00:00Z"),
            ("stillframe:instance-id", "i-1"),
            ("stillframe:scan-id", "0123456789abcdef"),
            ("team", "blue"),
        ];
        assert_eq!(tags, expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(scan_of(&tags, DEFAULT_CREATED_BY), Some(scan));
        assert_eq!(expires_at(&tags), Some("2026-07-01T10:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_lacks_either_tag_is_not_ours() {
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let ours = |pairs: &[(&str, &str)]| scan_of(&tags(pairs), DEFAULT_CREATED_BY).is_some();
        assert!(ours(&[(CREATED_BY, DEFAULT_CREATED_BY), (SCAN_ID, "0123456789abcdef")]));
        assert!(!ours(&[(CREATED_BY, DEFAULT_CREATED_BY)]));
        assert!(!ours(&[(SCAN_ID, "0123456789abcdef")]));
        assert!(!ours(&[(CREATED_BY, "microsoft defender for cloud"), (SCAN_ID, "0123456789abcdef")]));
        assert!(!ours(&[(CREATED_BY, DEFAULT_CREATED_BY), (SCAN_ID, "../../etc/passwd")]));
        assert!(!ours(&[(CREATED_BY, DEFAULT_CREATED_BY), (SCAN_ID, "")]));
    }

    #[test]
    fn user_tags_that_the_cloud_would_refuse_are_refused_before_a_call() {
        let one = |key: &str, value: &str| check_user_tags(&Tags::from([(key.into(), value.into())]));
        assert_eq!(one("team", "blue"), Ok(()));
        assert!(matches!(one("aws:x", ""), Err(TagError::Reserved { .. })));
        assert!(matches!(one("CreatedBy", "me"), Err(TagError::Reserved { .. })));
        assert!(matches!(one("stillframe:expires-at", "never"), Err(TagError::Reserved { .. })));
        assert!(matches!(one("", "x"), Err(TagError::Length { .. })));
        assert!(matches!(one("x", &"y".repeat(257)), Err(TagError::Length { .. })));
        let many = (0..47).map(|i| (i.to_string(), String::new())).collect();
        assert_eq!(check_user_tags(&many), Err(TagError::TooMany { count: 47 }));
    }
}
