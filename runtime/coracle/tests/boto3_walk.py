"""The ECS walk with boto3: waiters, paginators, typed errors, tags, idempotency, logs."""

import sys
import time
import urllib.request
import os

import boto3
from botocore.exceptions import ClientError

HTTP_IMAGE, COMMAND_IMAGE = sys.argv[1:3]
ecs = boto3.client("ecs")
logs = boto3.client("logs")


def until(what, condition, deadline=60):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting for {what}")


def fails(name, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Code"] == name, error
        return error
    raise AssertionError(f"{name} was expected")


# Definitions: numbered, listed, paged, described whole, deregistered.
for number in range(1, 4):
    made = ecs.register_task_definition(
        family="web",
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        executionRoleArn="arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
        containerDefinitions=[
            {
                "name": "web",
                "image": HTTP_IMAGE,
                "portMappings": [{"containerPort": 80, "protocol": "tcp"}],
                "environment": [{"name": "VERSION", "value": str(number)}],
                "ulimits": [{"name": "nofile", "softLimit": 1024, "hardLimit": 2048}],
            }
        ],
        tags=[{"key": "team", "value": "shop"}],
    )["taskDefinition"]
    assert made["revision"] == number
    assert made["containerDefinitions"][0]["ulimits"][0]["hardLimit"] == 2048
    assert made["executionRoleArn"].endswith("ecsTaskExecutionRole")
pages = list(ecs.get_paginator("list_task_definitions").paginate(familyPrefix="web", PaginationConfig={"PageSize": 1}))
assert len(pages) == 3, pages
assert [arn[-5:] for page in pages for arn in page["taskDefinitionArns"]] == ["web:1", "web:2", "web:3"]
latest = ecs.describe_task_definition(taskDefinition="web", include=["TAGS"])
assert latest["taskDefinition"]["revision"] == 3 and latest["tags"] == [{"key": "team", "value": "shop"}]
assert ecs.list_task_definition_families(familyPrefix="w")["families"] == ["web"]
gone = ecs.deregister_task_definition(taskDefinition="web:1")["taskDefinition"]
assert gone["status"] == "INACTIVE"
fails("ClientException", ecs.describe_task_definition, taskDefinition="nobody")
try:
    ecs.describe_services(cluster="nowhere", services=["a"])
    raise AssertionError("no such cluster")
except ecs.exceptions.ClusterNotFoundException as error:
    assert "Cluster not found" in str(error)

# A service: created, stable, answering, tagged, listed, updated, deleted.
service = ecs.create_service(
    serviceName="web",
    taskDefinition="web:2",
    desiredCount=2,
    launchType="FARGATE",
    networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-a"], "securityGroups": ["sg-1"]}},
    tags=[{"key": "env", "value": "test"}],
)["service"]
assert service["status"] == "ACTIVE" and service["deployments"][0]["rolloutState"] == "IN_PROGRESS"
until("two running", lambda: ecs.describe_services(services=["web"])["services"][0]["runningCount"] == 2)
ecs.get_waiter("services_stable").wait(services=["web"])
fails("InvalidParameterException", ecs.create_service, serviceName="web", taskDefinition="web:3", desiredCount=1)
described = ecs.describe_services(services=["web"], include=["TAGS"])["services"][0]
assert described["tags"] == [{"key": "env", "value": "test"}]
assert described["deployments"][0]["rolloutState"] == "COMPLETED", described["deployments"]
assert described["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == ["subnet-a"]
request = urllib.request.Request(os.environ["CORACLE_TEST_ROUTER"] + "/version", headers={"X-Coracle-Service": "default/web"})
assert urllib.request.urlopen(request).read().strip() == b"2"

ecs.update_service(service="web", taskDefinition="web:3", desiredCount=3)


def rolled():
    found = ecs.describe_services(services=["web"])["services"][0]
    return len(found["deployments"]) == 1 and found["runningCount"] == 3


until("the roll-out", rolled)
ecs.get_waiter("services_stable").wait(services=["web"])
assert urllib.request.urlopen(request).read().strip() == b"3"
tasks = ecs.list_tasks(serviceName="web")["taskArns"]
assert len(tasks) == 3
pages = list(ecs.get_paginator("list_tasks").paginate(PaginationConfig={"PageSize": 2}))
assert sorted(arn for page in pages for arn in page["taskArns"]) == sorted(tasks)
ecs.get_waiter("tasks_running").wait(tasks=tasks)
for task in ecs.describe_tasks(tasks=tasks)["tasks"]:
    assert task["group"] == "service:web" and task["startedBy"].startswith("ecs-svc/"), task
    assert task["lastStatus"] == "RUNNING" and task["connectivity"] == "CONNECTED", task
    assert task["containers"][0]["lastStatus"] == "RUNNING" and task["containers"][0]["runtimeId"], task

# A stopped task is replaced.
ecs.stop_task(task=tasks[0], reason="for the test")
ecs.get_waiter("tasks_stopped").wait(tasks=[tasks[0]])
stopped = ecs.describe_tasks(tasks=[tasks[0]])["tasks"][0]
assert stopped["stopCode"] == "UserInitiated" and stopped["stoppedReason"] == "for the test", stopped
until("the replacement", lambda: len(ecs.list_tasks(serviceName="web")["taskArns"]) == 3)
missing = ecs.describe_tasks(tasks=["0" * 32])
assert missing["tasks"] == [] and missing["failures"][0]["reason"] == "MISSING"

# Tags.
arn = described["serviceArn"]
ecs.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "1"}, {"key": "b", "value": "2"}])
ecs.untag_resource(resourceArn=arn, tagKeys=["a"])
tags = {tag["key"]: tag["value"] for tag in ecs.list_tags_for_resource(resourceArn=arn)["tags"]}
assert tags == {"env": "test", "b": "2"}, tags

ecs.update_service(service="web", desiredCount=0)
ecs.delete_service(service="web")
until("INACTIVE", lambda: ecs.describe_services(services=["web"])["services"][0]["status"] == "INACTIVE")
ecs.get_waiter("services_inactive").wait(services=["web"])

# Tasks: several at once, idempotent by token, too large ones refused with a reason.
ecs.register_task_definition(
    family="job",
    containerDefinitions=[{"name": "job", "image": COMMAND_IMAGE, "memory": 64, "command": ["echo", "done"]}],
)
token = "a-token-of-ours"
first = ecs.run_task(taskDefinition="job", count=3, clientToken=token)
again = ecs.run_task(taskDefinition="job", count=3, clientToken=token)
arns = sorted(task["taskArn"] for task in first["tasks"])
assert arns == sorted(task["taskArn"] for task in again["tasks"]) and len(arns) == 3
fails("ConflictException", ecs.run_task, taskDefinition="job", count=2, clientToken=token)
until("STOPPED", lambda: all(task["lastStatus"] == "STOPPED" for task in ecs.describe_tasks(tasks=arns)["tasks"]))
ecs.get_waiter("tasks_stopped").wait(tasks=arns)
assert {task["containers"][0]["exitCode"] for task in ecs.describe_tasks(tasks=arns)["tasks"]} == {0}
assert set(arns) <= set(ecs.list_tasks(desiredStatus="STOPPED", family="job")["taskArns"])
huge = ecs.run_task(taskDefinition="job", overrides={"cpu": "1048576"})
assert huge["tasks"] == [] and huge["failures"][0]["reason"] == "RESOURCE:CPU", huge

# Logs of the tasks, by stream and across streams.
found = logs.filter_log_events(logGroupName="/ecs/job")["events"]
assert [event["message"] for event in found] == ["done"] * 3, found
streams = [
    stream["logStreamName"]
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName="/ecs/job", PaginationConfig={"PageSize": 2})
    for stream in page["logStreams"]
]
assert len(streams) == 3
page = logs.get_log_events(logGroupName="/ecs/job", logStreamName=streams[0], startFromHead=True)
assert page["events"][0]["message"] == "done"
end = logs.get_log_events(logGroupName="/ecs/job", logStreamName=streams[0], nextToken=page["nextForwardToken"])
assert end["events"] == [] and end["nextForwardToken"] == page["nextForwardToken"]
fails("ResourceNotFoundException", logs.filter_log_events, logGroupName="/no/such")

# Regions are apart.
elsewhere = boto3.client("ecs", region_name="eu-west-1")
assert elsewhere.list_clusters()["clusterArns"] == ["arn:aws:ecs:eu-west-1:123456789012:cluster/default"]
assert elsewhere.list_task_definitions()["taskDefinitionArns"] == []
print("ok")
