//! Package databases: dpkg, rpm and apk.
