"""What boto3 makes of the fake: paginators, waiters, wire formats, error codes.

usage: boto3_client.py URL IMAGE

The world is the one that clients.rs makes. IMAGE is the raw file behind the root volume. Ends with 0 and the number of
checks, or with the first that fails.
"""

import base64
import hashlib
import json
import re
import sys
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

URL, IMAGE = sys.argv[1:]
BLOCK = 524_288
TAGS = [{"Key": "CreatedBy", "Value": "Microsoft Defender for Cloud"}, {"Key": "stillframe:scan-id", "Value": "s & <1>"}]
SPECIFICATION = [{"ResourceType": "snapshot", "Tags": TAGS}]
FIRST = "i-00000000000000000"
checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        raise SystemExit(f"not so: {what}")


def client(service, key="AKIAONE", secret="x", token=None, region="us-east-1", attempts=1, **config):
    return boto3.client(
        service,
        endpoint_url=URL,
        region_name=region,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, **config),
    )


def refused(code, call, **arguments):
    """The error that a call is refused with."""
    try:
        call(**arguments)
    except ClientError as error:
        check(error.response["Error"]["Code"] == code, f"{code}: {error}")
        check(re.match(r"[0-9a-f-]{36}$", error.response["ResponseMetadata"]["RequestId"]), "a request id")
        return error.response
    raise SystemExit(f"not refused with {code}: {call}")


def control(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{URL}/_fake/{path}", data) as reply:
        return json.load(reply)


def identities():
    sts = client("sts")
    me = sts.get_caller_identity()
    check(me["Account"] == "111111111111" and me["Arn"].startswith("arn:aws:iam::111111111111:"), "who am I")
    role = {"RoleArn": "arn:aws:iam::222222222222:role/scanner", "RoleSessionName": "stillframe"}
    refused("AccessDenied", sts.assume_role, **role)
    refused("AccessDenied", sts.assume_role, **role, ExternalId="wrong")
    refused("ExpiredToken", client("sts", "AKIAOLD").get_caller_identity)
    refused("RequestExpired", client("ec2", "AKIAOLD").describe_regions)
    refused("ExpiredTokenException", client("ebs", "AKIAOLD").list_snapshot_blocks, SnapshotId="snap-1")
    assumed = sts.assume_role(**role, ExternalId="right")["Credentials"]
    check(assumed["Expiration"].timestamp() > time.time(), "good for some time")
    keys = assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"]
    me = client("sts", *keys).get_caller_identity()
    check(me["Arn"] == "arn:aws:sts::222222222222:assumed-role/scanner/stillframe", "the role's session")
    there = client("ec2", *keys).describe_instances(MaxResults=5)
    check([r["OwnerId"] for r in there["Reservations"]] == ["222222222222"], "the other account's instance")
    refused("UnauthorizedOperation", client("ec2", *keys).describe_volumes)


def account():
    """What is asked before a scan: instance types, keys, the Recycle Bin's rules, quotas."""
    ec2, kms, bin, quotas = client("ec2"), client("kms"), client("rbin"), client("service-quotas")
    types = ec2.describe_instance_types(InstanceTypes=["m5d.large", "t3.micro"])["InstanceTypes"]
    stores = {t["InstanceType"]: t.get("InstanceStorageInfo", {}).get("TotalSizeInGB") for t in types}
    check(stores == {"m5d.large": 75, "t3.micro": None}, f"instance stores: {stores}")
    check([t["InstanceStorageSupported"] for t in types] == [True, False], "supported or not")
    pages = ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 5})
    check(len([t for page in pages for t in page["InstanceTypes"]]) == 2, "all types")
    refused("InvalidInstanceType", ec2.describe_instance_types, InstanceTypes=["x9.huge"])
    refused("DryRunOperation", ec2.describe_instance_types, DryRun=True)

    arn = "arn:aws:kms:us-east-1:111111111111:key/"
    key = kms.describe_key(KeyId=arn + "1")["KeyMetadata"]
    check((key["Arn"], key["KeyId"], key["KeyState"], key["Enabled"]) == (arn + "1", "1", "Enabled", True), "a key")
    key = kms.describe_key(KeyId=arn + "2")["KeyMetadata"]
    check((key["KeyState"], key["Enabled"]) == ("Disabled", False), "a disabled key")
    check(key["CreationDate"].year >= 2024, "when it was made")
    refused("NotFoundException", kms.describe_key, KeyId=arn + "3")
    refused("InvalidArnException", kms.describe_key, KeyId="arn:aws")
    refused("ExpiredTokenException", client("kms", "AKIAOLD").describe_key, KeyId=arn + "1")

    rules = [r for page in bin.get_paginator("list_rules").paginate(ResourceType="EBS_SNAPSHOT") for r in page["Rules"]]
    check([r["RetentionPeriod"] for r in rules] == [{"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"}], "rules")
    rule = bin.get_rule(Identifier=rules[0]["Identifier"])
    check((rule["ResourceType"], rule["Status"]) == ("EBS_SNAPSHOT", "available"), "a rule")
    check(rule["ExcludeResourceTags"] == [{"ResourceTagKey": "keep", "ResourceTagValue": "no"}], "an exclusion tag")
    check(rule["ResourceTags"] == [] and rule["RuleArn"].startswith("arn:aws:rbin:us-east-1:111111111111:"), "its arn")
    check(bin.list_rules(ResourceType="EC2_IMAGE")["Rules"] == [], "none for images")
    gone = refused("ResourceNotFoundException", bin.get_rule, Identifier="aaaaaaaaaaa")
    check(gone["Reason"] == "RULE_NOT_FOUND", "no such rule")
    refused("ValidationException", bin.list_rules, ResourceType="EBS_SNAPSHOT", NextToken="bogus")

    def value(call, code, service="ebs"):
        quota = call(ServiceCode=service, QuotaCode=code)["Quota"]
        check((quota["QuotaCode"], quota["ServiceCode"]) == (code, service), "the quota that was asked for")
        return quota["Value"]

    gets, lists, pending = "L-C125AE42", "L-18E976AB", "L-94D7AB7D"
    check(value(quotas.get_service_quota, gets) == 5_000, "a quota of the account's own")
    refused("NoSuchResourceException", quotas.get_service_quota, ServiceCode="ebs", QuotaCode=lists)
    common = [value(quotas.get_aws_default_service_quota, code) for code in (gets, lists, pending)]
    check(common == [1_000, 50, 100], f"quotas of every account: {common}")
    refused("NoSuchResourceException", quotas.get_aws_default_service_quota, ServiceCode="ec2", QuotaCode=gets)

    role = {"RoleArn": "arn:aws:iam::222222222222:role/scanner", "RoleSessionName": "stillframe", "ExternalId": "right"}
    assumed = client("sts").assume_role(**role)["Credentials"]
    keys = assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"]
    denied = refused("AccessDeniedException", client("kms", *keys).describe_key, KeyId=arn + "1")
    check("not authorized to perform: kms:DescribeKey" in denied["Error"]["Message"], "what is denied is named")
    refused("AccessDeniedException", client("rbin", *keys).list_rules, ResourceType="EBS_SNAPSHOT")
    refused("AccessDeniedException", client("service-quotas", *keys).get_service_quota, ServiceCode="ebs", QuotaCode=gets)
    # boto3's own retries bring it through what passes.
    faults = [{"operation": o, "nth": n, "fault": f} for o in ("DescribeKey", "ListRules", "GetServiceQuota")
              for n, f in ((1, {"kind": "throttle"}), (2, {"kind": "http", "status": 500}))]
    control("faults", faults)
    again = {"attempts": 4}
    replies = [client("kms", **again).describe_key(KeyId=arn + "1"),
               client("rbin", **again).list_rules(ResourceType="EBS_SNAPSHOT"),
               client("service-quotas", **again).get_service_quota(ServiceCode="ebs", QuotaCode=gets)]
    check([r["ResponseMetadata"]["RetryAttempts"] for r in replies] == [2, 2, 2], "throttled, failed, answered")
    control("faults", [])


def machines():
    ec2 = client("ec2")
    check([r["RegionName"] for r in ec2.describe_regions()["Regions"]] == ["us-east-1", "eu-west-3"], "regions")
    check(not client("ec2", region="eu-west-3").describe_instances()["Reservations"], "none in the other region")
    refused("AuthFailure", client("ec2", region="mars-1").describe_instances)

    def instances(**arguments):
        pages = list(ec2.get_paginator("describe_instances").paginate(**arguments))
        return len(pages), [i for page in pages for r in page["Reservations"] for i in r["Instances"]]

    pages, all_of_them = instances(PaginationConfig={"PageSize": 5})
    check((pages, len({i["InstanceId"] for i in all_of_them})) == (3, 12), f"{pages} pages of instances")
    control("faults", [{"operation": "DescribeInstances", "nth": 1, "fault": {"kind": "empty-page"}}])
    pages, again = instances(PaginationConfig={"PageSize": 5})
    check((pages, len(again)) == (4, 12), "an empty page is no end")
    control("faults", [])
    running = [{"Name": "instance-state-name", "Values": ["running"]}, {"Name": "tag:Name", "Values": ["web-*"]}]
    check([i["InstanceId"] for i in instances(Filters=running)[1]] == [FIRST], "filters")
    stopped = instances(Filters=[{"Name": "instance-state-name", "Values": ["stopped"]}])[1]
    check(stopped and stopped[0]["State"] == {"Code": 80, "Name": "stopped"}, "a stopped one")
    first = ec2.describe_instances(InstanceIds=[FIRST])["Reservations"][0]["Instances"][0]
    check(first["RootDeviceName"] == "/dev/xvda" and first["RootDeviceType"] == "ebs", "the root device")
    check([d.get("Ebs", {}).get("VolumeId") for d in first["BlockDeviceMappings"]]
          == ["vol-00000000000000000", "vol-00000000000000001", None], "devices, one of them no EBS volume")
    check(first["Tags"] == [{"Key": "Name", "Value": "web-1 <&>"}], "tags come through as they are")
    refused("InvalidInstanceID.NotFound", ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"])
    refused("InvalidInstanceID.Malformed", ec2.describe_instances, InstanceIds=["i-xyz"])
    refused("InvalidParameterCombination", ec2.describe_instances, InstanceIds=[FIRST], MaxResults=5)
    refused("InvalidParameterValue", ec2.describe_instances, MaxResults=4)
    refused("InvalidPaginationToken", ec2.describe_instances, MaxResults=5, NextToken="bogus")
    refused("InvalidParameterValue", ec2.describe_instances, Filters=[{"Name": "colour", "Values": ["red"]}])

    pages = list(ec2.get_paginator("describe_volumes").paginate(PaginationConfig={"PageSize": 5}))
    volumes = [v for page in pages for v in page["Volumes"]]
    check((len(pages), len(volumes)) == (2, 7), f"{len(pages)} pages of {len(volumes)} volumes")
    attached = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [FIRST]}])["Volumes"]
    check([v["VolumeId"][-1] for v in attached] == ["0", "1"], "the volumes of an instance")
    check(len(attached[1]["Attachments"]) == 2 and attached[1]["MultiAttachEnabled"], "a shared volume")
    encrypted = ec2.describe_volumes(Filters=[{"Name": "encrypted", "Values": ["true"]}])["Volumes"]
    check([v["KmsKeyId"] for v in encrypted] == ["arn:aws:kms:us-east-1:111111111111:key/1"], "the encrypted one")
    refused("InvalidVolume.NotFound", ec2.describe_volumes, VolumeIds=["vol-0123456789abcdef0"])


def lifecycle():
    """Creates a set, reads the root volume, deletes it; gives back the snapshots' ids."""
    ec2, ebs = client("ec2"), client("ebs")
    wanted = {"InstanceSpecification": {"InstanceId": FIRST}, "Description": "a test"}
    refused("UnauthorizedOperation", ec2.create_snapshots, **wanted)
    refused("UnauthorizedOperation", ec2.create_snapshots, **wanted, DryRun=True)
    dry = refused("DryRunOperation", ec2.create_snapshots, **wanted, TagSpecifications=SPECIFICATION, DryRun=True)
    check(dry["ResponseMetadata"]["HTTPStatusCode"] == 412, "412")
    created = ec2.create_snapshots(**wanted, TagSpecifications=SPECIFICATION)["Snapshots"]
    check([s["VolumeId"][-1] for s in created] == ["0", "1"], "one for each EBS volume")
    check(all(s["State"] == "pending" and s["OwnerId"] == "111111111111" for s in created), "pending")
    check(all({t["Key"]: t["Value"] for t in s["Tags"]} == {t["Key"]: t["Value"] for t in TAGS} for s in created), "tags")
    refused("SnapshotCreationPerVolumeRateExceeded", ec2.create_snapshots, **wanted, TagSpecifications=SPECIFICATION)
    ids = [s["SnapshotId"] for s in created]
    check(all(re.match(r"snap-[0-9a-f]{17}$", id) for id in ids), "ids")
    pending = refused("ValidationException", ebs.list_snapshot_blocks, SnapshotId=ids[0])
    check(pending["Reason"] == "INVALID_SNAPSHOT_ID", "a pending snapshot is not read")
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    mine = ec2.describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag-key", "Values": ["stillframe:scan-id"]}])
    root = next(s for s in mine["Snapshots"] if s["SnapshotId"] == ids[0])
    check(root["Progress"] == "100%" and root["StorageTier"] == "standard", "completed")
    read_back(ebs, ids[0], root["FullSnapshotSizeInBytes"])
    for id in ids:
        ec2.delete_snapshot(SnapshotId=id)
        refused("InvalidSnapshot.NotFound", ec2.delete_snapshot, SnapshotId=id)
        refused("InvalidSnapshot.NotFound", ec2.describe_snapshots, SnapshotIds=[id])
    gone = refused("ResourceNotFoundException", ebs.list_snapshot_blocks, SnapshotId=ids[0])
    check((gone["Reason"], gone["ResponseMetadata"]["HTTPStatusCode"]) == ("SNAPSHOT_NOT_FOUND", 404), "gone")
    # The bin keeps what was deleted.
    binned = ec2.list_snapshots_in_recycle_bin()["Snapshots"]
    check(sorted(s["SnapshotId"] for s in binned) == sorted(ids), "the Recycle Bin")
    check((binned[0]["RecycleBinExitTime"] - binned[0]["RecycleBinEnterTime"]).days == 7, "for seven days")
    return ids


def read_back(ebs, id, size):
    with open(IMAGE, "rb") as file:
        image = file.read()
    token, listed, pages = {}, [], 0
    while True:
        page = ebs.list_snapshot_blocks(SnapshotId=id, MaxResults=100, **token)
        check((page["BlockSize"], page["VolumeSize"]) == (BLOCK, 1), "block and volume size")
        check(6.9 < (page["ExpiryTime"].timestamp() - now()) / 86_400 < 7.1, "block tokens are good for 7 days")
        listed += page["Blocks"]
        pages += 1
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
        check(re.match(r"^[A-Za-z0-9+/=]{1,256}$", page["NextToken"]), "an opaque page token")
    indexes = [b["BlockIndex"] for b in listed]
    check(indexes == sorted(set(indexes)), "ascending, each once")
    check(pages > 1 and len(indexes) * BLOCK == size, f"{pages} pages; the written size is that of the blocks")
    read = bytearray(len(image))
    for block in listed:
        check(re.match(r"^[A-Za-z0-9+/=]{1,256}$", block["BlockToken"]), "an opaque block token")
        reply = ebs.get_snapshot_block(SnapshotId=id, **block)
        data = reply["BlockData"].read()
        check(len(data) == BLOCK == reply["DataLength"] and reply["ChecksumAlgorithm"] == "SHA256", "a block")
        check(base64.b64encode(hashlib.sha256(data).digest()).decode() == reply["Checksum"], "its checksum")
        start = block["BlockIndex"] * BLOCK
        read[start:start + BLOCK] = data[:max(0, len(image) - start)]
    check(bytes(read) == image, "byte for byte, and zeros where nothing is listed")
    start = indexes[len(indexes) // 2]
    rest = ebs.list_snapshot_blocks(SnapshotId=id, MaxResults=10_000, StartingBlockIndex=start)
    check([b["BlockIndex"] for b in rest["Blocks"]] == [i for i in indexes if i >= start], "from a block on")
    unchanged = ebs.list_changed_blocks(FirstSnapshotId=id, SecondSnapshotId=id, MaxResults=100)
    check(unchanged["ChangedBlocks"] == [], "a snapshot does not differ from itself")
    changed = ebs.list_changed_blocks(SecondSnapshotId=id, MaxResults=10_000)["ChangedBlocks"]
    check([b["BlockIndex"] for b in changed] == indexes, "without a first snapshot everything changed")
    bad = refused("ValidationException", ebs.get_snapshot_block, SnapshotId=id, BlockIndex=indexes[0], BlockToken="bogus")
    check(bad["Reason"] == "INVALID_BLOCK_TOKEN", "no token of ours")
    other = listed[1]["BlockToken"]
    refused("ValidationException", ebs.get_snapshot_block, SnapshotId=id, BlockIndex=indexes[0], BlockToken=other)
    bad = refused("ValidationException", ebs.list_snapshot_blocks, SnapshotId=id, NextToken="bogus")
    check(bad["Reason"] == "INVALID_PAGE_TOKEN", "no page of ours")
    loose = client("ebs", parameter_validation=False)
    refused("ValidationException", loose.list_snapshot_blocks, SnapshotId=id, MaxResults=99)
    refused("ValidationException", loose.list_snapshot_blocks, SnapshotId=id, MaxResults=10_001)


def now():
    """The fake's time, which runs ahead of ours."""
    return control("events")[-1]["at_ms"] / 1_000


def refusals():
    ec2, ebs = client("ec2"), client("ebs")
    data = [{"VolumeId": f"vol-0000000000000000{n}", "TagSpecifications": SPECIFICATION} for n in range(7)]
    # An encrypted volume whose key is denied: listed, not read.
    secret = ec2.create_snapshot(**data[2])
    check(secret["State"] == "pending" and secret["Encrypted"], "one snapshot")
    broken = ec2.create_snapshot(**data[3])
    ids = [secret["SnapshotId"], broken["SnapshotId"]]
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=ids[:1], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    blocks = ebs.list_snapshot_blocks(SnapshotId=ids[0])["Blocks"]
    denied = refused("AccessDeniedException", ebs.get_snapshot_block, SnapshotId=ids[0], **blocks[0])
    check(denied["Reason"] == "DEPENDENCY_ACCESS_DENIED", "the key")
    failed = ec2.describe_snapshots(SnapshotIds=ids[1:])["Snapshots"][0]
    check((failed["State"], failed["StateMessage"]) == ("error", "the disk is gone"), "a failed snapshot")
    # The policy covers what bears both tags, nothing else.
    refused("UnauthorizedOperation", ec2.delete_snapshot, SnapshotId="snap-0000000000000aa00")
    refused("AccessDeniedException", ebs.list_snapshot_blocks, SnapshotId="snap-0000000000000aa00")
    for change, what in [("snap-0000000000000bb00", "archived"), ("snap-0000000000000bb01", "local")]:
        unfit = refused("ValidationException", ebs.list_snapshot_blocks, SnapshotId=change)
        check(what in unfit["message"] if "message" in unfit else what in unfit["Error"]["Message"], what)
    ec2.lock_snapshot(SnapshotId=ids[0], LockMode="governance", LockDuration=1)
    locked = ec2.describe_locked_snapshots(SnapshotIds=ids)["Snapshots"]
    check([(s["SnapshotId"], s["LockState"]) for s in locked] == [(ids[0], "governance")], "a lock")
    refused("SnapshotLocked", ec2.delete_snapshot, SnapshotId=ids[0])
    ec2.unlock_snapshot(SnapshotId=ids[0])
    for id in ids:
        ec2.delete_snapshot(SnapshotId=id)
    refused("InvalidSnapshot.InUse", ec2.delete_snapshot, SnapshotId="snap-0000000000000bb02")

    pages = list(ec2.get_paginator("describe_snapshots").paginate(
        OwnerIds=["self"], Filters=[{"Name": "description", "Values": ["old"]}], PaginationConfig={"PageSize": 10}))
    old = [s["SnapshotId"] for page in pages for s in page["Snapshots"]]
    check((len(pages), len(set(old))) == (3, 23), f"{len(pages)} pages of {len(old)} snapshots")


def faults():
    """boto3's own retries bring it through what passes."""
    ec2, ebs = client("ec2", attempts=4), client("ebs", attempts=4)
    id = "snap-0000000000000cc00"
    rules = [{"operation": "ListSnapshotBlocks", "nth": 1, "fault": {"kind": "throttle"}},
             {"operation": "ListSnapshotBlocks", "nth": 2, "fault": {"kind": "http", "status": 500}},
             {"operation": "ListSnapshotBlocks", "nth": 3, "fault": {"kind": "reset"}},
             {"operation": "DescribeSnapshots", "nth": 1, "fault": {"kind": "throttle"}},
             {"operation": "DescribeSnapshots", "nth": 2, "fault": {"kind": "http", "status": 503}}]
    control("faults", rules)
    listed = ebs.list_snapshot_blocks(SnapshotId=id)
    check(listed["ResponseMetadata"]["RetryAttempts"] == 3, "throttled, failed, reset, answered")
    check(ec2.describe_snapshots(SnapshotIds=[id])["ResponseMetadata"]["RetryAttempts"] == 2, "two tries more")
    control("faults", [{"operation": "GetSnapshotBlock", "fault": {"kind": "cut", "at_bytes": 100_000}}])
    cut = ebs.get_snapshot_block(SnapshotId=id, **listed["Blocks"][0])
    try:
        length = len(cut["BlockData"].read())
    except Exception as error:
        check("100000 bytes read" in str(error) or "100000" in str(error), f"cut: {error}")
    else:
        raise SystemExit(f"not cut: {length} bytes")
    control("faults", [{"operation": "GetSnapshotBlock", "fault": {"kind": "wrong-checksum"}}])
    wrong = ebs.get_snapshot_block(SnapshotId=id, **listed["Blocks"][0])
    digest = base64.b64encode(hashlib.sha256(wrong["BlockData"].read()).digest()).decode()
    check(digest != wrong["Checksum"], "a wrong checksum")
    control("faults", [])


identities()
account()
machines()
lifecycle()
refusals()
faults()
print(f"{checks} checks")
