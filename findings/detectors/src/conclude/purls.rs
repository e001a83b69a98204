//! Package URLs of operating system packages: ECMA-427 and its definitions of `deb`, `rpm` and `apk`.

use stillframe_model::{DiskText, Location, OperatingSystem, Package, PackageKind, Purl};
use stillframe_packages::OsPackage;

use crate::DatabaseKind;

/// The package as the report lists it.
pub(super) fn package(
    kind: DatabaseKind,
    package: OsPackage,
    location: &Location,
    os: Option<&OperatingSystem>,
) -> Package {
    let kind = match kind {
        DatabaseKind::Dpkg => PackageKind::Deb,
        DatabaseKind::Rpm => PackageKind::Rpm,
        DatabaseKind::Apk => PackageKind::Apk,
    };
    let epoch = package.epoch.filter(|epoch| *epoch > 0).map(|epoch| epoch.to_string()).unwrap_or_default();
    let distro = os.map(distro).unwrap_or_default();
    let namespace = namespace(kind, os);
    let qualifiers = [
        ("arch", package.architecture.as_deref().unwrap_or_default()),
        ("distro", &distro),
        ("epoch", &epoch),
        ("rpmmod", package.module.as_deref().unwrap_or_default()),
    ];
    let purl = Purl::new(kind.purl_type(), &namespace, &package.name, &package.version, &qualifiers);
    let version = if epoch.is_empty() { package.version } else { format!("{epoch}:{}", package.version) };
    let text = |value: Option<String>| value.map(|value| DiskText::new(&value));
    let source_rpm = package.source_rpm.as_deref().and_then(source_name_of);
    Package {
        purl,
        kind,
        name: DiskText::new(&package.name),
        version: DiskText::new(&version),
        architecture: text(package.architecture),
        source_name: text(package.source_name.or(source_rpm).filter(|source| *source != package.name)),
        source_version: text(package.source_version),
        module: text(package.module),
        found_in: vec![location.clone()],
    }
}

/// `ID-VERSION_ID`, or `ID-CODENAME` of a release that has no number yet.
fn distro(os: &OperatingSystem) -> String {
    match os.version_id.as_ref().or(os.codename.as_ref()) {
        Some(version) => format!("{}-{version}", os.id),
        None => os.id.to_string(),
    }
}

/// The vendor: the distribution's id, but for those that the specification spells otherwise.
fn namespace(kind: PackageKind, os: Option<&OperatingSystem>) -> String {
    let Some(os) = os else { return String::new() };
    match (kind, os.id.as_str()) {
        (PackageKind::Rpm, "rhel") => "redhat".to_owned(),
        (PackageKind::Rpm, id) if id.starts_with("opensuse") => "opensuse".to_owned(),
        (PackageKind::Rpm, "sles" | "sled") => "suse".to_owned(),
        (_, id) => id.to_owned(),
    }
}

/// `openssl` of `openssl-3.0.7-27.el9.src.rpm`.
fn source_name_of(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".rpm")?;
    let mut parts = stem.rsplitn(3, '-');
    let (_release, _version) = (parts.next()?, parts.next()?);
    parts.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_model::Label;

    fn os(id: &str, version: Option<&str>, codename: Option<&str>) -> OperatingSystem {
        OperatingSystem {
            family: Label::new("linux"),
            id: id.into(),
            version_id: version.map(DiskText::new),
            codename: codename.map(DiskText::new),
            pretty_name: None,
            id_like: vec![],
        }
    }

    fn purl(
        kind: DatabaseKind,
        os: &OperatingSystem,
        name: &str,
        version: &str,
        epoch: Option<u32>,
    ) -> (String, String) {
        let os_package = OsPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            epoch,
            architecture: Some("x86_64".to_owned()),
            source_rpm: Some("openssl-3.0.7-27.el9.src.rpm".to_owned()),
            ..OsPackage::default()
        };
        let location = Location::in_volume("disk0", "xfs");
        let package = package(kind, os_package, &location, Some(os));
        (package.purl.to_string(), package.version.to_string())
    }

    #[test]
    fn qualifiers_name_the_distribution() {
        let (url, version) =
            purl(DatabaseKind::Rpm, &os("rhel", Some("9.4"), None), "openssl", "3.0.7-27.el9", Some(1));
        assert_eq!(url, "pkg:rpm/redhat/openssl@3.0.7-27.el9?arch=x86_64&distro=rhel-9.4&epoch=1");
        assert_eq!(version, "1:3.0.7-27.el9");
        let (url, _) = purl(DatabaseKind::Dpkg, &os("debian", None, Some("trixie")), "curl", "8.1-1", None);
        assert_eq!(url, "pkg:deb/debian/curl@8.1-1?arch=x86_64&distro=debian-trixie");
        let (_, version) = purl(DatabaseKind::Rpm, &os("amzn", Some("2023"), None), "curl", "8.1-1", Some(0));
        assert_eq!(version, "8.1-1");
    }

    #[test]
    fn source_names_end_before_version_and_release() {
        assert_eq!(source_name_of("gtk-doc-1.33-2.fc39.src.rpm").as_deref(), Some("gtk-doc"));
        assert_eq!(source_name_of("nonsense"), None);
    }
}
