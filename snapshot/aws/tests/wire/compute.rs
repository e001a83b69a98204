//! EC2 and STS.

use std::collections::BTreeMap;

use stillframe_aws::{Connection, Role};
use stillframe_cloud::api::{Compute, CreateSet, DryRunAction, ErrorKind, Filter, SnapshotState, Tags};

use crate::server::{Reply, Server, ec2_error, xml};

fn tags() -> Tags {
    Tags::from([
        ("CreatedBy".to_owned(), "Microsoft Defender for Cloud".to_owned()),
        ("stillframe:scan-id".to_owned(), "0a1b2c3d".to_owned()),
    ])
}

/// The fields of a form, decoded.
fn form(request: &str) -> BTreeMap<String, String> {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            if *first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    body.split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

#[tokio::test]
async fn a_set_is_asked_for_with_its_tags_and_read() {
    let server = Server::start(vec![xml(
        200,
        r#"<?xml version="1.0" encoding="UTF-8"?>
<CreateSnapshotsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>in-the-body</requestId>
  <snapshotSet>
    <item><snapshotId>snap-0a</snapshotId><volumeId>vol-0a</volumeId><state>pending</state><volumeSize>8</volumeSize>
      <startTime>2026-03-04T05:06:07.890Z</startTime><ownerId>111122223333</ownerId><encrypted>true</encrypted>
      <progress/><tagSet><item><key>CreatedBy</key><value>Microsoft Defender for Cloud</value></item></tagSet></item>
    <item><snapshotId>snap-0b</snapshotId><volumeId>vol-0b</volumeId><volumeSize>100</volumeSize>
      <ownerId>111122223333</ownerId><encrypted>false</encrypted></item>
  </snapshotSet>
</CreateSnapshotsResponse>"#,
    )]);
    let connection = server.connection().await;
    let request = CreateSet {
        instance_id: "i-0abc".to_owned(),
        exclude_boot_volume: true,
        exclude_data_volume_ids: vec!["vol-0c".to_owned(), "vol-0d".to_owned()],
        description: "stillframe 0a1b2c3d".to_owned(),
        tags: tags(),
    };
    let made = connection.create_snapshots(&request).await.unwrap();
    assert_eq!(made.request_id.as_deref(), Some("req-200"));
    let [first, second] = made.value.as_slice() else { panic!("two snapshots: {made:?}") };
    assert_eq!((first.id.as_str(), first.volume_id.as_str()), ("snap-0a", "vol-0a"));
    assert_eq!(first.state, SnapshotState::Pending);
    assert_eq!(first.started, Some("2026-03-04T05:06:07.890Z".parse().unwrap()));
    assert_eq!((first.volume_size_gib, first.encrypted, first.owner.as_str()), (8, true, "111122223333"));
    assert_eq!(first.tags.get("CreatedBy").map(String::as_str), Some("Microsoft Defender for Cloud"));
    // A state that is not told.
    assert_eq!((second.state, second.volume_size_gib), (SnapshotState::Pending, 100));

    let requests = server.requests();
    let [asked] = requests.as_slice() else { panic!("one request: {requests:?}") };
    let expected = [
        ("Action", "CreateSnapshots"),
        ("Version", "2016-11-15"),
        ("Description", "stillframe 0a1b2c3d"),
        ("InstanceSpecification.InstanceId", "i-0abc"),
        ("InstanceSpecification.ExcludeBootVolume", "true"),
        ("InstanceSpecification.ExcludeDataVolumeId.1", "vol-0c"),
        ("InstanceSpecification.ExcludeDataVolumeId.2", "vol-0d"),
        ("TagSpecification.1.ResourceType", "snapshot"),
        ("TagSpecification.1.Tag.1.Key", "CreatedBy"),
        ("TagSpecification.1.Tag.1.Value", "Microsoft Defender for Cloud"),
        ("TagSpecification.1.Tag.2.Key", "stillframe:scan-id"),
        ("TagSpecification.1.Tag.2.Value", "0a1b2c3d"),
    ];
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(form(asked), expected);
    let head = asked.to_ascii_lowercase();
    assert!(head.contains("app/stillframe"), "the app's name is in the user agent: {head}");
    assert!(head.contains("/eu-west-3/ec2/aws4_request"), "signed for the region: {head}");
}

#[tokio::test]
async fn instances_are_read_page_by_page() {
    let server = Server::start(vec![
        xml(
            200,
            r#"<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item>
<instancesSet><item><instanceId>i-0a</instanceId><instanceState><code>16</code><name>running</name></instanceState>
<instanceType>m5d.large</instanceType><placement><availabilityZone>eu-west-3a</availabilityZone></placement>
<platform>windows</platform><rootDeviceName>/dev/sda1</rootDeviceName><blockDeviceMapping>
<item><deviceName>/dev/sda1</deviceName><ebs><volumeId>vol-0a</volumeId><status>attached</status></ebs></item>
<item><deviceName>/dev/sdf</deviceName></item></blockDeviceMapping>
<tagSet><item><key>Name</key><value>web &amp; more</value></item></tagSet></item></instancesSet></item>
</reservationSet><nextToken>page-2</nextToken></DescribeInstancesResponse>"#,
        ),
        xml(
            200,
            "<DescribeInstancesResponse><reservationSet/><nextToken></nextToken></DescribeInstancesResponse>",
        ),
    ]);
    let connection = server.connection().await;
    let filters = [Filter { name: "tag:Name".to_owned(), values: vec!["web*".to_owned(), "db*".to_owned()] }];
    let page = connection.describe_instances(&filters, None).await.unwrap();
    let [instance] = page.items.as_slice() else { panic!("one instance: {page:?}") };
    assert_eq!((instance.id.as_str(), instance.state.as_str()), ("i-0a", "running"));
    assert_eq!((instance.instance_type.as_str(), instance.platform.as_str()), ("m5d.large", "windows"));
    assert_eq!(instance.availability_zone, "eu-west-3a");
    assert_eq!(instance.root_device_name.as_deref(), Some("/dev/sda1"));
    let volumes: Vec<_> = instance.devices.iter().map(|device| device.volume_id.as_deref()).collect();
    assert_eq!(volumes, [Some("vol-0a"), None]);
    assert_eq!(instance.tags.get("Name").map(String::as_str), Some("web & more"));
    assert_eq!(page.next.as_deref(), Some("page-2"));

    let last = connection.describe_instances(&filters, page.next).await.unwrap();
    assert_eq!((last.items.len(), last.next), (0, None));
    let requests = server.requests();
    let [first, second] = requests.as_slice() else { panic!("two requests: {requests:?}") };
    let (first, second) = (form(first), form(second));
    assert_eq!(first.get("MaxResults").map(String::as_str), Some("1000"));
    assert_eq!(first.get("Filter.1.Name").map(String::as_str), Some("tag:Name"));
    assert_eq!(first.get("Filter.1.Value.2").map(String::as_str), Some("db*"));
    assert_eq!(first.get("NextToken"), None);
    assert_eq!(second.get("NextToken").map(String::as_str), Some("page-2"));
}

#[tokio::test]
async fn a_snapshot_is_described_with_all_that_a_plan_needs() {
    let server = Server::start(vec![xml(
        200,
        r#"<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>snap-0a</snapshotId><volumeId>vol-0a</volumeId>
<status>error</status><statusMessage>Given key ID is not accessible</statusMessage><volumeSize>16384</volumeSize>
<fullSnapshotSizeInBytes>17592186044416</fullSnapshotSizeInBytes><encrypted>true</encrypted>
<kmsKeyId>arn:aws:kms:eu-west-3:111122223333:key/k</kmsKeyId><storageTier>archive</storageTier>
<ownerId>111122223333</ownerId></item></snapshotSet></DescribeSnapshotsResponse>"#,
    )]);
    let connection = server.connection().await;
    let ids = ["snap-0a".to_owned(), "snap-0b".to_owned()];
    let snapshots = connection.describe_snapshots_by_id(&ids).await.unwrap();
    let [snapshot] = snapshots.as_slice() else { panic!("one snapshot: {snapshots:?}") };
    assert_eq!(snapshot.state, SnapshotState::Error);
    assert_eq!(snapshot.state_message.as_deref(), Some("Given key ID is not accessible"));
    assert_eq!((snapshot.volume_size_gib, snapshot.full_size_bytes), (16_384, Some(1 << 44)));
    assert_eq!(snapshot.storage_tier.as_deref(), Some("archive"));
    assert_eq!(snapshot.kms_key_id.as_deref(), Some("arn:aws:kms:eu-west-3:111122223333:key/k"));
    let asked = form(&server.requests()[0]);
    assert_eq!(asked.get("SnapshotId.2").map(String::as_str), Some("snap-0b"));
    // Without ids EC2 would describe all there are: nothing is asked.
    assert_eq!(connection.describe_snapshots_by_id(&[]).await.unwrap(), []);
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn refusals_have_their_kind_their_request_and_one_attempt() {
    let cases = [
        (400, "InvalidSnapshot.NotFound", ErrorKind::NotFound),
        (400, "InvalidSnapshot.InUse", ErrorKind::InUse),
        (403, "UnauthorizedOperation", ErrorKind::AccessDenied),
        (401, "AuthFailure", ErrorKind::Credentials),
        (503, "RequestLimitExceeded", ErrorKind::Throttled),
        (500, "InternalError", ErrorKind::Service),
        (400, "SnapshotCreationPerVolumeRateExceeded", ErrorKind::VolumeRate),
    ];
    for (status, code, kind) in cases {
        let server = Server::start(vec![ec2_error(status, code, "no")]);
        let error = server.connection().await.delete_snapshot("snap-0a").await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (kind, code));
        assert_eq!(error.operation, "ec2:DeleteSnapshot");
        assert_eq!(error.resource.as_deref(), Some("snap-0a"));
        assert_eq!(error.request_id, Some(format!("req-{status}")), "{code}");
        assert_eq!(server.requests().len(), 1, "{code} was tried again");
    }
}

#[tokio::test]
async fn replies_that_are_none_are_told_apart() {
    let cases = [
        (xml(500, "<html>oops</html>"), ErrorKind::Service, "HTTP 500"),
        (
            xml(200, "<CreateSnapshotResponse><status>pending</status></CreateSnapshotResponse>"),
            ErrorKind::NoReply,
            "the reply lacks a snapshot id",
        ),
        (xml(200, "{}"), ErrorKind::NoReply, "the reply was cut or unreadable"),
        (
            Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<Create".to_vec()),
            ErrorKind::NoReply,
            "the reply was cut or unreadable",
        ),
        (Reply::Cut(Vec::new()), ErrorKind::NoReply, "no reply"),
    ];
    for (reply, kind, code) in cases {
        let server = Server::start(vec![reply]);
        let connection = server.connection().await;
        let error = connection.create_snapshot("vol-0a", "", &tags()).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (kind, code));
        assert_eq!(server.requests().len(), 1, "{code} was tried again");
    }
}

#[tokio::test]
async fn a_dry_run_that_would_do_is_told_from_one_that_would_not() {
    let server = Server::start(vec![
        ec2_error(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set."),
        ec2_error(
            403,
            "UnauthorizedOperation",
            "… is not authorized to perform: ec2:CreateTags on resource: …",
        ),
        xml(200, "<DeleteSnapshotResponse><return>true</return></DeleteSnapshotResponse>"),
    ]);
    let connection = server.connection().await;
    let create = DryRunAction::CreateSnapshots { instance_id: "i-0a".to_owned(), tags: tags() };
    assert_eq!(connection.dry_run(create.clone()).await, Ok(()));
    let denied = connection.dry_run(create).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::AccessDenied);
    assert_eq!(denied.code, "UnauthorizedOperation: ec2:CreateTags");
    let delete = DryRunAction::DeleteSnapshot { snapshot_id: "snap-0a".to_owned() };
    assert_eq!(connection.dry_run(delete).await.unwrap_err().kind, ErrorKind::Other);
    for asked in server.requests() {
        assert_eq!(form(&asked).get("DryRun").map(String::as_str), Some("true"));
    }
}

#[tokio::test]
async fn an_id_that_is_not_in_the_bin_hides_no_other() {
    let kept = "<ListSnapshotsInRecycleBinResponse><snapshotSet><item><snapshotId>snap-0b</snapshotId></item>\
                </snapshotSet></ListSnapshotsInRecycleBinResponse>";
    let absent = || ec2_error(400, "InvalidSnapshot.NotFound", "no");
    let server = Server::start(vec![absent(), absent(), xml(200, kept), absent()]);
    let connection = server.connection().await;
    let ids = ["snap-0a".to_owned(), "snap-0b".to_owned()];
    assert_eq!(connection.snapshots_in_recycle_bin(&ids).await.unwrap(), ["snap-0b"]);
    assert_eq!(connection.snapshots_in_recycle_bin(&ids[..1]).await.unwrap(), Vec::<String>::new());
    assert_eq!(server.requests().len(), 4);
}

const ASSUMED: &str = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>arn:aws:sts::444455556666:assumed-role/r/x</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>ASIAASSUMED</AccessKeyId><SecretAccessKey>assumed-secret</SecretAccessKey>
<SessionToken>assumed-token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"#;

async fn with_role(server: &Server) -> Connection {
    let mut options = server.options();
    options.role = Some(Role {
        arn: "arn:aws:iam::444455556666:role/r".to_owned(),
        external_id: Some("shared word".to_owned()),
        scan_id: "0a1b2c3d".to_owned(),
    });
    Connection::open(&options).await.unwrap()
}

#[tokio::test]
async fn a_role_is_assumed_once_and_acted_with() {
    let identity = |account: &str| {
        xml(
            200,
            &format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>{account}</Account>\
             </GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
        )
    };
    let server = Server::start(vec![
        xml(200, ASSUMED),
        identity("444455556666"),
        xml(
            200,
            "<DescribeRegionsResponse><regionInfo><item><regionName>eu-west-3</regionName></item></regionInfo></DescribeRegionsResponse>",
        ),
        identity("nobody"),
    ]);
    let connection = with_role(&server).await;
    let place = connection.caller().await.unwrap();
    assert_eq!((place.account.as_str(), place.region.as_str()), ("444455556666", "eu-west-3"));
    assert_eq!(connection.describe_regions().await.unwrap(), ["eu-west-3"]);
    assert_eq!(connection.caller().await.unwrap_err().code, "the reply names no account");

    let requests = server.requests();
    let [assume, caller, regions, _] = requests.as_slice() else { panic!("four requests: {requests:?}") };
    let asked = form(assume);
    assert_eq!(asked.get("RoleSessionName").map(String::as_str), Some("stillframe-0a1b2c3d"));
    assert_eq!(asked.get("ExternalId").map(String::as_str), Some("shared word"));
    assert!(assume.contains("Credential=AKIDFORTESTS/"), "{assume}");
    for later in [caller, regions] {
        assert!(later.contains("Credential=ASIAASSUMED/"), "{later}");
    }
}

#[tokio::test]
async fn a_role_that_does_not_let_us_in_is_named_and_no_credential_with_it() {
    let refused = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: \
                   arn:aws:iam::111122223333:user/u is not authorized to perform: sts:AssumeRole on resource: \
                   arn:aws:iam::444455556666:role/r with canary-secret</Message></Error></ErrorResponse>";
    let server = Server::start(vec![xml(403, refused)]);
    let error = with_role(&server).await.delete_snapshot("snap-0a").await.unwrap_err();
    assert_eq!((error.operation, error.kind), ("sts:AssumeRole", ErrorKind::AccessDenied));
    assert_eq!(error.code, "AccessDenied");
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("canary") && !shown.contains("AKID") && !shown.contains("shared word"),
        "{shown}"
    );
}
