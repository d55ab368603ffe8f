"""Users, policies, roles and sessions with boto3, against a server that asks for signatures."""

import json
import sys
import urllib.request

import boto3
from botocore.exceptions import ClientError

KEY, SECRET = sys.argv[1:3]
ACCOUNT = "123456789012"


def clients(key, secret, token=None):
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)
    return {name: session.client(name) for name in ("ecs", "iam", "sts", "elbv2", "logs", "ssm")}


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{call} should have failed with {code}")


admin = clients(KEY, SECRET)
iam = admin["iam"]
assert admin["sts"].get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/admin"

# A user who may work in the cluster test, but not delete anything in it, and look at everything.
iam.create_user(UserName="dev", Path="/team/", Tags=[{"Key": "team", "Value": "shop"}])
refused("EntityAlreadyExists", iam.create_user, UserName="DEV")
key = iam.create_access_key(UserName="dev")["AccessKey"]
dev = clients(key["AccessKeyId"], key["SecretAccessKey"])
assert dev["sts"].get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/dev"
message = refused("AccessDeniedException", dev["ecs"].list_clusters)
assert message == (
    f"User: arn:aws:iam::{ACCOUNT}:user/team/dev is not authorized to perform: ecs:ListClusters on resource: * "
    "because no identity-based policy allows the ecs:ListClusters action"
), message
refused("AccessDenied", dev["elbv2"].describe_load_balancers)
refused("MalformedPolicyDocument", iam.put_user_policy, UserName="dev", PolicyName="x", PolicyDocument="{}")
policy = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["ecs:Describe*", "ecs:List*"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "ecs:*",
            "Resource": [f"arn:aws:ecs:*:{ACCOUNT}:cluster/test", f"arn:aws:ecs:*:{ACCOUNT}:service/test/*"],
        },
        {
            "Effect": "Allow",
            "Action": "ecs:RunTask",
            "Resource": "*",
            "Condition": {"ArnEquals": {"ecs:cluster": f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/test"}},
        },
        {"Effect": "Deny", "Action": "ecs:Delete*", "Resource": "*"},
    ],
}
iam.put_user_policy(UserName="dev", PolicyName="work", PolicyDocument=json.dumps(policy))
assert iam.get_user_policy(UserName="dev", PolicyName="work")["PolicyDocument"] == policy
assert iam.list_user_policies(UserName="dev")["PolicyNames"] == ["work"]

for cluster in ("test", "prod"):
    admin["ecs"].create_cluster(clusterName=cluster)
container = {"name": "app", "image": "app:1", "memory": 64}
admin["ecs"].register_task_definition(family="app", containerDefinitions=[container])
ecs = dev["ecs"]
assert len(ecs.list_clusters()["clusterArns"]) == 3
ecs.create_service(cluster="test", serviceName="web", taskDefinition="app", desiredCount=0)
for cluster in ("prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/prod", None):
    named = {"cluster": cluster} if cluster else {}
    refused("AccessDeniedException", ecs.create_service, serviceName="web", taskDefinition="app", **named)
    refused("AccessDeniedException", ecs.run_task, taskDefinition="app", **named)
ecs.run_task(cluster="test", taskDefinition="app")
message = refused("AccessDeniedException", ecs.delete_service, cluster="test", service="web")
assert message.endswith("with an explicit deny in an identity-based policy"), message
refused("AccessDenied", dev["iam"].create_user, UserName="another")

# Handing a role to tasks needs permission of its own.
trust = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"},
    ],
}
role = iam.create_role(RoleName="operator", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
assert role["AssumeRolePolicyDocument"] == trust
policy["Statement"][1]["Resource"] = "*"
iam.put_user_policy(UserName="dev", PolicyName="work", PolicyDocument=json.dumps(policy))
definition = {"family": "app", "containerDefinitions": [container], "taskRoleArn": role["Arn"]}
message = refused("AccessDeniedException", ecs.register_task_definition, **definition)
assert "iam:PassRole" in message and role["Arn"] in message, message
admin["ecs"].register_task_definition(**definition)

# Becoming a role, for a while.
refused("AccessDenied", dev["sts"].assume_role, RoleArn=role["Arn"], RoleSessionName="shift")
assume = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role["Arn"]}
iam.put_user_policy(
    UserName="dev",
    PolicyName="become",
    PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": assume}),
)
assumed = dev["sts"].assume_role(RoleArn=role["Arn"], RoleSessionName="shift", DurationSeconds=900)
session = assumed["Credentials"]
operator = clients(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/operator/shift"
assert assumed["AssumedRoleUser"]["Arn"] == arn
assert operator["sts"].get_caller_identity()["Arn"] == arn
refused("AccessDeniedException", operator["ecs"].list_clusters)
iam.attach_role_policy(RoleName="operator", PolicyArn="arn:aws:iam::aws:policy/AmazonECS_FullAccess")
operator["ecs"].delete_service(cluster="test", service="web", force=True)
refused("AccessDenied", operator["iam"].create_user, UserName="another")
without = clients(session["AccessKeyId"], session["SecretAccessKey"])
refused("UnrecognizedClientException", without["ecs"].list_clusters)
other = clients(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"][:-8] + "AAAAAAA=")
refused("UnrecognizedClientException", other["ecs"].list_clusters)

# Policies of one's own, shared; what they would say.
shared = iam.create_policy(
    PolicyName="readers",
    PolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}
    ),
)["Policy"]
iam.attach_user_policy(UserName="dev", PolicyArn=shared["Arn"])
dev["logs"].describe_log_groups()
answers = iam.simulate_principal_policy(
    PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:user/team/dev",
    ActionNames=["logs:GetLogEvents", "ecs:DeleteCluster", "iam:CreateUser"],
)["EvaluationResults"]
assert [answer["EvalDecision"] for answer in answers] == ["allowed", "explicitDeny", "implicitDeny"], answers
refused("DeleteConflict", iam.delete_policy, PolicyArn=shared["Arn"])
attached = iam.get_paginator("list_attached_user_policies").paginate(UserName="dev").build_full_result()
assert [policy["PolicyName"] for policy in attached["AttachedPolicies"]] == ["readers"]
local = iam.get_paginator("list_policies").paginate(Scope="Local").build_full_result()["Policies"]
assert [policy["AttachmentCount"] for policy in local] == [1]

# A group's policies are its users'.
refused("AccessDeniedException", dev["ssm"].describe_parameters)
group = iam.create_group(GroupName="Parameters", Path="/team/")["Group"]
assert group["Arn"] == f"arn:aws:iam::{ACCOUNT}:group/team/Parameters", group
refused("EntityAlreadyExists", iam.create_group, GroupName="parameters")
iam.attach_group_policy(GroupName="Parameters", PolicyArn="arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess")
refused("AccessDeniedException", dev["ssm"].describe_parameters)
iam.add_user_to_group(GroupName="Parameters", UserName="dev")
dev["ssm"].describe_parameters()
assert [user["UserName"] for user in iam.get_group(GroupName="Parameters")["Users"]] == ["dev"]
assert [found["GroupName"] for found in iam.list_groups_for_user(UserName="dev")["Groups"]] == ["Parameters"]
iam.put_group_policy(
    GroupName="Parameters",
    PolicyName="none",
    PolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ssm:*", "Resource": "*"}]}
    ),
)
refused("AccessDeniedException", dev["ssm"].describe_parameters)
refused("DeleteConflict", iam.delete_group, GroupName="Parameters")
iam.delete_group_policy(GroupName="Parameters", PolicyName="none")
iam.detach_group_policy(GroupName="Parameters", PolicyArn="arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess")
refused("DeleteConflict", iam.delete_group, GroupName="Parameters")
refused("DeleteConflict", iam.delete_user, UserName="dev")
iam.remove_user_from_group(GroupName="Parameters", UserName="dev")
refused("NoSuchEntity", iam.remove_user_from_group, GroupName="Parameters", UserName="dev")
iam.delete_group(GroupName="Parameters")
assert iam.list_groups()["Groups"] == []

# A presigned request says who one is, and nothing else.
url = dev["sts"].generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
assert "user/team/dev" in urllib.request.urlopen(url).read().decode()

# Keys are limited, switched off and taken away; nothing in use is deleted.
iam.create_access_key(UserName="dev")
refused("LimitExceeded", iam.create_access_key, UserName="dev")
iam.update_access_key(UserName="dev", AccessKeyId=key["AccessKeyId"], Status="Inactive")
refused("UnrecognizedClientException", ecs.list_clusters)
refused("DeleteConflict", iam.delete_user, UserName="dev")
for found in iam.list_access_keys(UserName="dev")["AccessKeyMetadata"]:
    iam.delete_access_key(UserName="dev", AccessKeyId=found["AccessKeyId"])
for name in iam.list_user_policies(UserName="dev")["PolicyNames"]:
    iam.delete_user_policy(UserName="dev", PolicyName=name)
iam.detach_user_policy(UserName="dev", PolicyArn=shared["Arn"])
iam.delete_user(UserName="dev")
refused("NoSuchEntity", iam.get_user, UserName="dev")
iam.delete_policy(PolicyArn=shared["Arn"])
iam.detach_role_policy(RoleName="operator", PolicyArn="arn:aws:iam::aws:policy/AmazonECS_FullAccess")
iam.delete_role(RoleName="operator")
