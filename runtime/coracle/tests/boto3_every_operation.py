"""Every ECS operation of botocore's model at least once, succeeding and failing, and every answer checked
against the model: no member the model does not have, none of the wrong type, none of its required ones missing.

Usage: boto3_every_operation.py HTTP_IMAGE COMMAND_IMAGE
"""

import json
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HTTP_IMAGE, COMMAND_IMAGE = sys.argv[1:3]
# Bad requests are to reach the server, not to be caught on the way.
ecs = boto3.client("ecs", config=Config(parameter_validation=False, retries={"max_attempts": 1}))
MODEL = ecs.meta.service_model
succeeded, failed, nobody_executes = set(), set(), set()

COMMON_ERRORS = {"ServerException", "ClientException", "InvalidParameterException", "AccessDeniedException"}
PYTHON_TYPES = {
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
    "timestamp": (int, float),
    "double": (int, float),
    "structure": dict,
    "map": dict,
    "list": list,
}


def conform(value, shape, path):
    """Complains unless `value`, as it came over the wire, is one of `shape`."""
    expected = PYTHON_TYPES[shape.type_name]
    is_number = not (isinstance(value, bool) and shape.type_name != "boolean")
    assert isinstance(value, expected) and is_number, f"{path} is {value!r}, and should be a {shape.type_name}"
    if shape.type_name == "structure":
        # A document may have anything in it.
        if shape.is_document_type:
            return
        unknown = value.keys() - shape.members.keys()
        assert not unknown, f"{path} has members the model does not have: {unknown}"
        missing = set(shape.required_members) - value.keys()
        assert not missing, f"{path} lacks {missing}"
        for name, member in value.items():
            conform(member, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            conform(item, shape.member, f"{path}[{index}]")
    elif shape.type_name == "map":
        for name, item in value.items():
            conform(item, shape.value, f"{path}.{name}")
    elif getattr(shape, "enum", None):
        assert value in shape.enum, f"{path} is {value!r}, which is none of {shape.enum}"


def check(response_dict, model, **_):
    """Called by botocore with every answer, before it parses it."""
    body = json.loads(response_dict["body"])
    if response_dict["status_code"] == 200:
        conform(body, model.output_shape, model.name)
        succeeded.add(model.name)
        return
    assert response_dict["status_code"] == 400, (model.name, response_dict["status_code"], body)
    name = body["__type"]
    named = {shape.error_code for shape in model.error_shapes} | {shape.name for shape in model.error_shapes}
    protocol = {"SerializationException"}
    assert name in named | COMMON_ERRORS | protocol, f"{model.name} fails with {name}, which is none of its errors"
    assert body["message"], model.name
    failed.add(model.name)


def before_parse(operation_model, response_dict, **_):
    check(response_dict, operation_model)


ecs.meta.events.register("before-parse.ecs", before_parse)


def until(what, condition, deadline=60):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"timed out waiting for {what}")


def fails(code, call, text="", **arguments):
    """Calls an operation that must fail with this error."""
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == code, f"{code} was expected: {error}"
        assert text in found["Message"], f"{text!r} was expected in: {error}"
        if hasattr(ecs.exceptions, code):
            assert isinstance(error, getattr(ecs.exceptions, code)), code
        return found["Message"]
    raise AssertionError(f"{code} was expected of {arguments}")


def short(arn):
    return arn.rsplit("/", 1)[-1]


NOWHERE = {"cluster": "nowhere"}
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-a"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}}
NO_CLUSTER, INVALID, CLIENT = "ClusterNotFoundException", "InvalidParameterException", "ClientException"


def clusters():
    made = ecs.create_cluster(
        clusterName="prod",
        settings=[{"name": "containerInsights", "value": "enabled"}],
        configuration={"executeCommandConfiguration": {"logging": "DEFAULT"}},
        capacityProviders=["FARGATE", "FARGATE_SPOT"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1, "base": 1}],
        tags=[{"key": "team", "value": "shop"}],
    )["cluster"]
    assert made["settings"][0]["value"] == "enabled" and made["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"], made
    fails(INVALID, ecs.create_cluster, clusterName="no spaces")
    fails(INVALID, ecs.create_cluster, clusterName="x", settings=[{"name": "containerInsights", "value": "perhaps"}])
    fails(INVALID, ecs.create_cluster, clusterName="x", capacityProviders=["nobody"])

    everything = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"]
    described = ecs.describe_clusters(clusters=["prod", "nowhere"], include=everything)
    assert described["clusters"][0]["tags"] == [{"key": "team", "value": "shop"}], described
    assert described["failures"][0]["reason"] == "MISSING" and described["failures"][0]["arn"].endswith("cluster/nowhere")
    fails(INVALID, ecs.describe_clusters, clusters=["c"] * 101)
    pages = ecs.get_paginator("list_clusters").paginate(PaginationConfig={"PageSize": 1})
    assert sorted(short(arn) for page in pages for arn in page["clusterArns"]) == ["default", "prod"]
    fails(INVALID, ecs.list_clusters, nextToken="nonsense")

    updated = ecs.update_cluster(cluster="prod", serviceConnectDefaults={"namespace": "shop"})["cluster"]
    assert updated["serviceConnectDefaults"]["namespace"] == "shop", updated
    fails(NO_CLUSTER, ecs.update_cluster, **NOWHERE)
    settings = [{"name": "containerInsights", "value": "enhanced"}]
    assert ecs.update_cluster_settings(cluster="prod", settings=settings)["cluster"]["settings"] == settings
    fails(INVALID, ecs.update_cluster_settings, cluster="prod")
    fails(NO_CLUSTER, ecs.update_cluster_settings, settings=settings, **NOWHERE)

    group = {
        "autoScalingGroupArn": "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:x:autoScalingGroupName/a",
        "managedScaling": {"status": "ENABLED", "targetCapacity": 80},
    }
    made = ecs.create_capacity_provider(name="ec2-cp", autoScalingGroupProvider=group, tags=[{"key": "a", "value": "b"}])
    made = made["capacityProvider"]
    assert made["status"] == "ACTIVE" and made["autoScalingGroupProvider"]["managedScaling"]["maximumScalingStepSize"] == 10000
    fails(CLIENT, ecs.create_capacity_provider, name="ec2-cp", autoScalingGroupProvider=group, text="already exists")
    fails(INVALID, ecs.create_capacity_provider, name="aws-cp", autoScalingGroupProvider=group, text="prefixed")
    template = {
        "ec2InstanceProfileArn": "arn:aws:iam::123456789012:instance-profile/i",
        "networkConfiguration": {"subnets": ["subnet-a"]},
    }
    managed = {"infrastructureRoleArn": "arn:aws:iam::123456789012:role/r", "instanceLaunchTemplate": template}
    ecs.create_capacity_provider(name="managed-cp", cluster="prod", managedInstancesProvider=managed)
    fails(NO_CLUSTER, ecs.create_capacity_provider, name="other-cp", managedInstancesProvider=managed, **NOWHERE)
    scaling = {"managedScaling": {"status": "ENABLED", "targetCapacity": 90}}
    updated = ecs.update_capacity_provider(name="ec2-cp", autoScalingGroupProvider=scaling)["capacityProvider"]
    assert updated["autoScalingGroupProvider"]["managedScaling"]["targetCapacity"] == 90, updated
    assert updated["autoScalingGroupProvider"]["autoScalingGroupArn"] == group["autoScalingGroupArn"], updated
    fails(CLIENT, ecs.update_capacity_provider, name="nobody", autoScalingGroupProvider=scaling)
    described = ecs.describe_capacity_providers(capacityProviders=["FARGATE", "ec2-cp", "nobody"], include=["TAGS"])
    assert [one["name"] for one in described["capacityProviders"]] == ["FARGATE", "ec2-cp"], described
    assert described["capacityProviders"][1]["tags"] and described["failures"][0]["reason"] == "MISSING"
    names, token = [], {}
    while True:
        page = ecs.describe_capacity_providers(maxResults=3, **token)
        names += [one["name"] for one in page["capacityProviders"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert names == ["FARGATE", "FARGATE_SPOT", "ec2-cp", "managed-cp"], names
    fails(NO_CLUSTER, ecs.describe_capacity_providers, **NOWHERE)
    fails(INVALID, ecs.describe_capacity_providers, maxResults=11)

    put = ecs.put_cluster_capacity_providers(
        cluster="prod",
        capacityProviders=["FARGATE", "ec2-cp"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "ec2-cp", "weight": 1, "base": 2}],
    )["cluster"]
    assert put["capacityProviders"] == ["FARGATE", "ec2-cp"], put
    fails(
        INVALID,
        ecs.put_cluster_capacity_providers,
        cluster="prod",
        capacityProviders=["FARGATE"],
        defaultCapacityProviderStrategy=[{"capacityProvider": "ec2-cp", "weight": 1}],
        text="not associated with the cluster",
    )
    fails(CLIENT, ecs.delete_capacity_provider, capacityProvider="ec2-cp", text="associated with cluster")
    fails(INVALID, ecs.delete_capacity_provider, capacityProvider="FARGATE", text="reserved")
    ecs.put_cluster_capacity_providers(cluster="prod", capacityProviders=[], defaultCapacityProviderStrategy=[])
    gone = ecs.delete_capacity_provider(capacityProvider="ec2-cp")["capacityProvider"]
    assert gone["status"] == "INACTIVE", gone
    fails("ClusterContainsCapacityProviderException", ecs.delete_cluster, cluster="prod")
    ecs.delete_capacity_provider(capacityProvider="managed-cp")


def account_settings():
    put = ecs.put_account_setting(name="containerInsights", value="enhanced")["setting"]
    assert put["value"] == "enhanced" and put["principalArn"].endswith(":root"), put
    assert ecs.create_cluster(clusterName="insights")["cluster"]["settings"][0]["value"] == "enhanced"
    ecs.delete_cluster(cluster="insights")
    fails(INVALID, ecs.put_account_setting, name="containerInsights", value="maybe")
    fails(INVALID, ecs.put_account_setting, name="nonsense", value="enabled")
    ecs.put_account_setting_default(name="fargateTaskRetirementWaitPeriod", value="14")
    fails(INVALID, ecs.put_account_setting_default, name="serviceLongArnFormat", value="disabled")
    user = "arn:aws:iam::123456789012:user/anna"
    ecs.put_account_setting(name="containerInsights", value="disabled", principalArn=user)
    listed = ecs.list_account_settings(principalArn=user)["settings"]
    assert [(one["name"], one["value"]) for one in listed] == [("containerInsights", "disabled")], listed
    pages = ecs.get_paginator("list_account_settings").paginate(effectiveSettings=True, PaginationConfig={"PageSize": 4})
    names = [one["name"] for page in pages for one in page["settings"]]
    assert len(names) == 11 and names == sorted(names), names
    fails(INVALID, ecs.list_account_settings, value="enabled")
    assert ecs.delete_account_setting(name="containerInsights")["setting"]["value"] == "disabled"
    fails(INVALID, ecs.delete_account_setting, name="nonsense")


def task_definitions():
    web = {
        "family": "web",
        "taskRoleArn": "arn:aws:iam::123456789012:role/webTaskRole",
        "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "ephemeralStorage": {"sizeInGiB": 21},
        "containerDefinitions": [
            {
                "name": "web",
                "image": HTTP_IMAGE,
                "essential": True,
                "portMappings": [{"containerPort": 80, "protocol": "tcp", "name": "http", "appProtocol": "http"}],
                "environment": [{"name": "ENVIRONMENT", "value": "production"}],
                "ulimits": [{"name": "nofile", "softLimit": 65536, "hardLimit": 65536}],
                "dockerLabels": {"com.acme": "x"},
                "stopTimeout": 5,
            }
        ],
        "tags": [{"key": "team", "value": "shop"}],
    }
    for revision in (1, 2):
        made = ecs.register_task_definition(**web)
        assert made["taskDefinition"]["revision"] == revision and made["tags"], made
        for member in web.keys() - {"tags", "containerDefinitions"}:
            assert made["taskDefinition"][member] == web[member], member
    job = [{"name": "job", "image": COMMAND_IMAGE, "command": ["sleep", "600000"], "memory": 64}]
    ecs.register_task_definition(family="job", containerDefinitions=job)
    ecs.register_task_definition(family="job", containerDefinitions=job)
    fails(CLIENT, ecs.register_task_definition, family="bad", containerDefinitions=[], text="Container list cannot be empty")
    fails(CLIENT, ecs.register_task_definition, family="no spaces", containerDefinitions=job)
    fails("SerializationException", ecs.register_task_definition, family="bad", containerDefinitions=job, cpu=5)

    described = ecs.describe_task_definition(taskDefinition="web", include=["TAGS"])
    assert described["taskDefinition"]["revision"] == 2 and described["tags"] == web["tags"], described
    fails(CLIENT, ecs.describe_task_definition, taskDefinition="nobody")
    pages = ecs.get_paginator("list_task_definitions").paginate(sort="DESC", PaginationConfig={"PageSize": 3})
    arns = [short(arn) for page in pages for arn in page["taskDefinitionArns"]]
    assert arns == ["web:2", "web:1", "job:2", "job:1"], arns
    fails(INVALID, ecs.list_task_definitions, maxResults=0)
    pages = ecs.get_paginator("list_task_definition_families").paginate(PaginationConfig={"PageSize": 1})
    assert [family for page in pages for family in page["families"]] == ["job", "web"]
    fails(INVALID, ecs.list_task_definition_families, status="SOME")

    fails(CLIENT, ecs.deregister_task_definition, taskDefinition="job")
    assert ecs.deregister_task_definition(taskDefinition="job:1")["taskDefinition"]["status"] == "INACTIVE"
    answer = ecs.delete_task_definitions(taskDefinitions=["job:1", "job:2", "job:9"])
    assert [one["status"] for one in answer["taskDefinitions"]] == ["DELETE_IN_PROGRESS"], answer
    assert len(answer["failures"]) == 2, answer
    fails(INVALID, ecs.delete_task_definitions, taskDefinitions=[f"job:{n}" for n in range(1, 12)])
    until("job:1 to be gone", lambda: "job:1" not in str(ecs.list_task_definitions(status="DELETE_IN_PROGRESS")))


def container_instances():
    arn = ecs.list_container_instances(cluster="prod", status="ACTIVE")["containerInstanceArns"][0]
    pages = ecs.get_paginator("list_container_instances").paginate(cluster="prod", PaginationConfig={"PageSize": 1})
    assert [one for page in pages for one in page["containerInstanceArns"]] == [arn]
    assert ecs.list_container_instances(cluster="prod", status="DRAINING")["containerInstanceArns"] == []
    fails(NO_CLUSTER, ecs.list_container_instances, **NOWHERE)
    include = ["TAGS", "CONTAINER_INSTANCE_HEALTH"]
    described = ecs.describe_container_instances(cluster="prod", containerInstances=[arn, "0" * 32], include=include)
    instance = described["containerInstances"][0]
    assert instance["status"] == "ACTIVE" and instance["agentConnected"] and instance["healthStatus"], instance
    assert {one["name"] for one in instance["registeredResources"]} == {"CPU", "MEMORY", "PORTS", "PORTS_UDP"}
    assert described["failures"][0]["reason"] == "MISSING"
    fails(INVALID, ecs.describe_container_instances, cluster="prod", containerInstances=[])
    fails(NO_CLUSTER, ecs.describe_container_instances, containerInstances=[arn], **NOWHERE)

    put = ecs.put_attributes(cluster="prod", attributes=[{"name": "disk", "value": "ssd", "targetId": arn}])
    assert put["attributes"] == [{"name": "disk", "value": "ssd", "targetId": arn}], put
    fails(
        "TargetNotFoundException",
        ecs.put_attributes,
        cluster="prod",
        attributes=[{"name": "disk", "value": "ssd", "targetId": "0" * 32}],
    )
    many = [{"name": f"a{number}", "targetId": arn} for number in range(10)]
    fails("AttributeLimitExceededException", ecs.put_attributes, cluster="prod", attributes=many)
    fails(INVALID, ecs.put_attributes, cluster="prod", attributes=[{"name": "disk"}])
    pages = ecs.get_paginator("list_attributes").paginate(
        cluster="prod", targetType="container-instance", attributeName="disk", PaginationConfig={"PageSize": 1}
    )
    assert [one["value"] for page in pages for one in page["attributes"]] == ["ssd"]
    fails(INVALID, ecs.list_attributes, cluster="prod", targetType="container-instance", attributeValue="ssd")
    fails(NO_CLUSTER, ecs.list_attributes, targetType="container-instance", **NOWHERE)
    assert len(ecs.delete_attributes(cluster="prod", attributes=[{"name": "disk", "targetId": short(arn)}])["attributes"]) == 1
    fails(
        "TargetNotFoundException", ecs.delete_attributes, cluster="prod", attributes=[{"name": "d", "targetId": "0" * 32}]
    )

    drained = ecs.update_container_instances_state(cluster="prod", containerInstances=[arn, "0" * 32], status="DRAINING")
    assert drained["containerInstances"][0]["status"] == "DRAINING" and drained["failures"][0]["reason"] == "MISSING"
    ecs.update_container_instances_state(cluster="prod", containerInstances=[arn], status="ACTIVE")
    fails(INVALID, ecs.update_container_instances_state, cluster="prod", containerInstances=[arn], status="REGISTERING")
    fails("NoUpdateAvailableException", ecs.update_container_agent, cluster="prod", containerInstance=arn)
    fails(INVALID, ecs.update_container_agent, cluster="prod", containerInstance="0" * 32)

    registered = ecs.register_container_instance(
        cluster="prod",
        instanceIdentityDocument=json.dumps({"instanceId": "i-1234567890abcdef0", "region": "us-east-1"}),
        totalResources=[
            {"name": "CPU", "type": "INTEGER", "integerValue": 2048},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 3955},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375"]},
        ],
        versionInfo={"agentVersion": "1.94.0"},
        attributes=[{"name": "rack", "value": "7"}],
        tags=[{"key": "a", "value": "b"}],
    )["containerInstance"]
    assert registered["ec2InstanceId"] == "i-1234567890abcdef0" and not registered["agentConnected"], registered
    assert registered["registeredResources"][0]["integerValue"] == 2048 and registered["tags"], registered
    fails(INVALID, ecs.register_container_instance, cluster="prod", instanceIdentityDocument="{")
    fails(NO_CLUSTER, ecs.register_container_instance, **NOWHERE)
    fails("ClusterContainsContainerInstancesException", ecs.delete_cluster, cluster="prod")
    own = registered["containerInstanceArn"]
    started = ecs.start_task(cluster="prod", taskDefinition="job", containerInstances=[own, "0" * 32])
    assert sorted(one["reason"] for one in started["failures"]) == ["AGENT", "MISSING"] and started["tasks"] == []
    gone = ecs.deregister_container_instance(cluster="prod", containerInstance=own)["containerInstance"]
    assert gone["status"] == "INACTIVE", gone
    fails(INVALID, ecs.deregister_container_instance, cluster="prod", containerInstance=own)
    endpoint = ecs.discover_poll_endpoint(cluster="prod", containerInstance=arn)
    assert endpoint["endpoint"].startswith("http"), endpoint
    assert ecs.discover_poll_endpoint(cluster="prod", containerInstance="0" * 32)["endpoint"]
    fails(INVALID, ecs.discover_poll_endpoint, cluster="no spaces")
    fails(INVALID, ecs.list_account_settings, name="unknown", text="unknown should be one of [awsvpcTrunking,")
    return arn


def is_running(task):
    return ecs.describe_tasks(cluster="prod", tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING"


def tasks(instance):
    run = ecs.run_task(
        cluster="prod",
        taskDefinition="web:2",
        launchType="FARGATE",
        networkConfiguration=NETWORK,
        count=2,
        startedBy="ci-42",
        enableExecuteCommand=True,
        enableECSManagedTags=True,
        propagateTags="TASK_DEFINITION",
        referenceId="r-1",
        clientToken="token-1",
        overrides={"cpu": "512", "containerOverrides": [{"name": "web", "environment": [{"name": "A", "value": "b"}]}]},
        tags=[{"key": "mine", "value": "yes"}],
    )
    assert len(run["tasks"]) == 2 and run["failures"] == [], run
    task = run["tasks"][0]
    for member in ("attachments", "platformVersion", "platformFamily", "ephemeralStorage", "availabilityZone"):
        assert task[member], (member, task)
    fails(CLIENT, ecs.run_task, cluster="prod", taskDefinition="nobody", text="TaskDefinition not found")
    fails(INVALID, ecs.run_task, cluster="prod", taskDefinition="web", launchType="FARGATE", text="Network Configuration")
    fails(NO_CLUSTER, ecs.run_task, taskDefinition="web", **NOWHERE)
    fails(
        "ConflictException", ecs.run_task, cluster="prod", taskDefinition="web:1", clientToken="token-1", networkConfiguration=NETWORK
    )
    fails(
        "PlatformUnknownException", ecs.run_task, cluster="prod", taskDefinition="web", platformVersion="9", networkConfiguration=NETWORK
    )
    fails(
        "PlatformTaskDefinitionIncompatibilityException",
        ecs.run_task,
        cluster="prod",
        taskDefinition="web",
        launchType="FARGATE",
        platformVersion="1.3.0",
        networkConfiguration=NETWORK,
    )
    arn = task["taskArn"]
    until("the task to run", lambda: is_running(arn))
    ecs.get_waiter("tasks_running").wait(cluster="prod", tasks=[one["taskArn"] for one in run["tasks"]])
    described = ecs.describe_tasks(cluster="prod", tasks=[arn, "0" * 32], include=["TAGS"])
    keys = {one["key"] for one in described["tasks"][0]["tags"]}
    assert keys == {"aws:ecs:clusterName", "mine", "team"}, keys
    assert described["failures"][0]["reason"] == "MISSING"
    assert described["tasks"][0]["containers"][0]["networkInterfaces"], described
    fails(INVALID, ecs.describe_tasks, cluster="prod", tasks=[])
    fails(NO_CLUSTER, ecs.describe_tasks, tasks=[arn], **NOWHERE)
    pages = ecs.get_paginator("list_tasks").paginate(cluster="prod", family="web", PaginationConfig={"PageSize": 1})
    assert len([one for page in pages for one in page["taskArns"]]) == 2
    fails("ServiceNotFoundException", ecs.list_tasks, cluster="prod", serviceName="nobody")
    fails(NO_CLUSTER, ecs.list_tasks, **NOWHERE)

    started = ecs.start_task(cluster="prod", taskDefinition="job", containerInstances=[instance], startedBy="me")
    assert started["tasks"][0]["containerInstanceArn"] == instance, started
    until("the job to run", lambda: is_running(started["tasks"][0]["taskArn"]))
    fails(INVALID, ecs.start_task, cluster="prod", taskDefinition="job", containerInstances=[])
    fails(CLIENT, ecs.start_task, cluster="prod", taskDefinition="nobody", containerInstances=[instance])
    fails(INVALID, ecs.deregister_container_instance, cluster="prod", containerInstance=instance, text="Found running tasks")

    answer = ecs.submit_task_state_change(cluster="prod", task=arn, status="RUNNING")
    assert answer["acknowledgment"], answer
    fails(CLIENT, ecs.submit_task_state_change, cluster="prod", task=arn, status="STOPPED")
    ecs.submit_container_state_change(cluster="prod", task=arn, containerName="web", status="RUNNING")
    fails(INVALID, ecs.submit_container_state_change, cluster="prod", task=arn, containerName="nobody", status="RUNNING")
    attachment = f"arn:aws:ecs:us-east-1:123456789012:attachment/{task['attachments'][0]['id']}"
    ecs.submit_attachment_state_changes(cluster="prod", attachments=[{"attachmentArn": attachment, "status": "ATTACHED"}])
    fails(
        INVALID, ecs.submit_attachment_state_changes, cluster="prod", attachments=[{"attachmentArn": "a", "status": "ATTACHED"}]
    )

    execute = {"cluster": "prod", "command": "/bin/sh -c 'echo hello'", "interactive": True}
    try:
        session = ecs.execute_command(task=arn, container="web", **execute)
        assert session["session"]["streamUrl"].startswith("ws") and session["session"]["tokenValue"], session
    except ecs.exceptions.TargetNotConnectedException:
        nobody_executes.add("ExecuteCommand")
    fails(INVALID, ecs.execute_command, task=started["tasks"][0]["taskArn"], text="was not enabled", **execute)
    fails(INVALID, ecs.execute_command, task=arn, container="nobody", **execute)
    fails(NO_CLUSTER, ecs.execute_command, task=arn, **execute | NOWHERE)
    alone = ecs.get_task_protection(cluster="prod", tasks=[arn])
    assert alone["failures"][0]["reason"] == "TASK_NOT_VALID", alone
    stopped = ecs.stop_task(cluster="prod", task=arn, reason="enough")["task"]
    assert stopped["desiredStatus"] == "STOPPED" and stopped["stoppedReason"] == "enough", stopped
    fails(INVALID, ecs.stop_task, cluster="prod", task="0" * 32)
    fails(NO_CLUSTER, ecs.stop_task, task=arn, **NOWHERE)
    ecs.stop_task(cluster="prod", task=run["tasks"][1]["taskArn"])
    ecs.stop_task(cluster="prod", task=started["tasks"][0]["taskArn"])
    until("the tasks to stop", lambda: not ecs.list_tasks(cluster="prod")["taskArns"])
    ecs.get_waiter("tasks_stopped").wait(cluster="prod", tasks=[arn])


def is_stable(service="web"):
    one = ecs.describe_services(cluster="prod", services=[service])["services"][0]
    return len(one["deployments"]) == 1 and one["runningCount"] == one["desiredCount"]


def services():
    made = ecs.create_service(
        cluster="prod",
        serviceName="web",
        taskDefinition="web:1",
        desiredCount=2,
        launchType="FARGATE",
        platformVersion="LATEST",
        networkConfiguration=NETWORK,
        deploymentConfiguration={
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        },
        deploymentController={"type": "ECS"},
        schedulingStrategy="REPLICA",
        serviceConnectConfiguration={"enabled": True, "namespace": "shop"},
        enableECSManagedTags=True,
        enableExecuteCommand=True,
        propagateTags="SERVICE",
        clientToken="token-2",
        tags=[{"key": "team", "value": "shop"}],
    )["service"]
    assert made["deployments"][0]["status"] == "PRIMARY" and made["events"] == [], made
    fails(CLIENT, ecs.create_service, cluster="prod", serviceName="x")
    fails(INVALID, ecs.create_service, cluster="prod", serviceName="web", taskDefinition="web", text="idempotent")
    fails(NO_CLUSTER, ecs.create_service, serviceName="x", taskDefinition="web", **NOWHERE)
    fails("UnsupportedFeatureException", ecs.create_service, serviceName="x", deploymentController={"type": "CODE_DEPLOY"})
    until("the service to be stable", is_stable)
    ecs.get_waiter("services_stable").wait(cluster="prod", services=["web"])
    described = ecs.describe_services(cluster="prod", services=["web", "nobody"], include=["TAGS"])
    assert described["services"][0]["tags"] and described["failures"][0]["reason"] == "MISSING", described
    fails(INVALID, ecs.describe_services, cluster="prod", services=[])
    fails(NO_CLUSTER, ecs.describe_services, services=["web"], **NOWHERE)
    pages = ecs.get_paginator("list_services").paginate(cluster="prod", launchType="FARGATE", PaginationConfig={"PageSize": 1})
    assert [short(arn) for page in pages for arn in page["serviceArns"]] == ["web"]
    fails(NO_CLUSTER, ecs.list_services, **NOWHERE)
    pages = ecs.get_paginator("list_services_by_namespace").paginate(namespace="shop", PaginationConfig={"PageSize": 1})
    assert [short(arn) for page in pages for arn in page["serviceArns"]] == ["web"]
    fails(INVALID, ecs.list_services_by_namespace)

    tasks = ecs.list_tasks(cluster="prod", serviceName="web")["taskArns"]
    protected = ecs.update_task_protection(cluster="prod", tasks=tasks[:1], protectionEnabled=True, expiresInMinutes=60)
    assert protected["protectedTasks"][0]["expirationDate"] and protected["failures"] == [], protected
    assert len(ecs.get_task_protection(cluster="prod")["protectedTasks"]) == 1
    ecs.update_task_protection(cluster="prod", tasks=tasks[:1] + ["0" * 32], protectionEnabled=False)
    fails(INVALID, ecs.update_task_protection, cluster="prod", tasks=tasks, protectionEnabled=True, expiresInMinutes=2881)
    fails(NO_CLUSTER, ecs.get_task_protection, tasks=tasks, **NOWHERE)

    updated = ecs.update_service(cluster="prod", service="web", taskDefinition="web:2", forceNewDeployment=True)["service"]
    deployment, revision = updated["currentServiceDeployment"], updated["currentServiceRevisions"][0]["arn"]
    fails("ServiceNotFoundException", ecs.update_service, cluster="prod", service="nobody")
    fails(CLIENT, ecs.update_service, cluster="prod", service="web", taskDefinition="nobody")
    described = ecs.describe_service_deployments(serviceDeploymentArns=[deployment, deployment[:-21] + "0" * 21])
    assert described["serviceDeployments"][0]["targetServiceRevision"]["arn"] == revision, described
    assert described["failures"][0]["reason"] == "MISSING", described
    fails(INVALID, ecs.describe_service_deployments, serviceDeploymentArns=["x"])
    described = ecs.describe_service_revisions(serviceRevisionArns=[revision])
    assert described["serviceRevisions"][0]["taskDefinition"].endswith("web:2"), described
    assert described["serviceRevisions"][0]["serviceConnectConfiguration"]["namespace"] == "shop", described
    fails(INVALID, ecs.describe_service_revisions, serviceRevisionArns=[])
    until("the new deployment to be done", is_stable)
    listed = ecs.list_service_deployments(cluster="prod", service="web", maxResults=1)
    assert listed["serviceDeployments"][0]["serviceDeploymentArn"] == deployment, listed
    listed = ecs.list_service_deployments(cluster="prod", service="web", nextToken=listed["nextToken"])
    assert len(listed["serviceDeployments"]) == 1 and "nextToken" not in listed, listed
    fails("ServiceNotFoundException", ecs.list_service_deployments, cluster="prod", service="nobody")
    stuck = ecs.update_service(cluster="prod", service="web", taskDefinition="stuck")["service"]["currentServiceDeployment"]
    assert ecs.stop_service_deployment(serviceDeploymentArn=stuck)["serviceDeploymentArn"] == stuck
    fails("ServiceDeploymentNotFoundException", ecs.stop_service_deployment, serviceDeploymentArn=deployment[:-21] + "0" * 21)
    fails(INVALID, ecs.continue_service_deployment, serviceDeploymentArn=deployment, hookId="nobody")
    fails(
        "ServiceDeploymentNotFoundException",
        ecs.continue_service_deployment,
        serviceDeploymentArn=deployment[:-21] + "0" * 21,
        hookId="x",
    )


def task_sets():
    ecs.create_service(
        cluster="prod",
        serviceName="ext",
        desiredCount=2,
        deploymentController={"type": "EXTERNAL"},
        taskDefinition="web",
    )
    of = {"cluster": "prod", "service": "ext"}
    made = ecs.create_task_set(
        taskDefinition="web:2",
        launchType="FARGATE",
        networkConfiguration=NETWORK,
        externalId="v2",
        scale={"value": 50.0, "unit": "PERCENT"},
        clientToken="token-3",
        tags=[{"key": "a", "value": "b"}],
        **of,
    )["taskSet"]
    assert made["computedDesiredCount"] == 1 and made["status"] == "ACTIVE" and made["externalId"] == "v2", made
    fails(INVALID, ecs.create_task_set, cluster="prod", service="web", taskDefinition="web", text="EXTERNAL")
    fails("ServiceNotFoundException", ecs.create_task_set, cluster="prod", service="nobody", taskDefinition="web")
    scaled = ecs.update_task_set(taskSet=made["id"], scale={"value": 100.0, "unit": "PERCENT"}, **of)["taskSet"]
    assert scaled["computedDesiredCount"] == 2, scaled
    fails(INVALID, ecs.update_task_set, taskSet=made["id"], scale={"value": 101.0, "unit": "PERCENT"}, **of)
    nobody = "ecs-svc/" + "1" * 19
    fails("TaskSetNotFoundException", ecs.update_task_set, taskSet=nobody, scale={"value": 1.0}, **of)
    primary = ecs.update_service_primary_task_set(primaryTaskSet=made["taskSetArn"], **of)["taskSet"]
    assert primary["status"] == "PRIMARY", primary
    fails("TaskSetNotFoundException", ecs.update_service_primary_task_set, primaryTaskSet=nobody, **of)
    described = ecs.describe_task_sets(taskSets=[made["id"], nobody], include=["TAGS"], **of)
    assert described["taskSets"][0]["tags"] and described["failures"][0]["reason"] == "MISSING", described
    fails("ServiceNotFoundException", ecs.describe_task_sets, cluster="prod", service="nobody")
    service = ecs.describe_services(cluster="prod", services=["ext"])["services"][0]
    assert service["taskDefinition"].endswith("web:2") and service["deployments"] == [], service
    assert service["taskSets"][0]["id"] == made["id"], service
    fails(INVALID, ecs.delete_task_set, taskSet=made["id"], **of)
    assert ecs.delete_task_set(taskSet=made["id"], force=True, **of)["taskSet"]["status"] == "DRAINING"
    fails("TaskSetNotFoundException", ecs.delete_task_set, taskSet=nobody, **of)


def daemons():
    container = {"name": "agent", "image": COMMAND_IMAGE, "command": ["sleep", "600000"], "memory": 64}
    register = ecs.register_daemon_task_definition
    first = register(family="agent", containerDefinitions=[container])["daemonTaskDefinitionArn"]
    second = register(family="agent", containerDefinitions=[container | {"memory": 65}])["daemonTaskDefinitionArn"]
    fails(INVALID, register, family="agent", containerDefinitions=[])
    described = ecs.describe_daemon_task_definition(daemonTaskDefinition="agent")["daemonTaskDefinition"]
    assert described["daemonTaskDefinitionArn"] == second and described["family"] == "agent", described
    fails(CLIENT, ecs.describe_daemon_task_definition, daemonTaskDefinition="nobody")
    listed = ecs.list_daemon_task_definitions(sort="DESC", maxResults=1)
    assert [one["arn"] for one in listed["daemonTaskDefinitions"]] == [second], listed
    listed = ecs.list_daemon_task_definitions(sort="DESC", nextToken=listed["nextToken"])
    assert [one["arn"] for one in listed["daemonTaskDefinitions"]] == [first], listed
    fails(INVALID, ecs.list_daemon_task_definitions, maxResults=0)
    assert "agent" not in str(ecs.list_task_definition_families()), "daemons keep to themselves"

    cluster = "arn:aws:ecs:us-east-1:123456789012:cluster/prod"
    made = ecs.create_daemon(
        daemonName="logs",
        clusterArn=cluster,
        daemonTaskDefinitionArn=first,
        capacityProviderArns=["FARGATE"],
        deploymentConfiguration={"drainPercent": 50.0, "bakeTimeInMinutes": 0},
        propagateTags="DAEMON",
        clientToken="token-4",
        tags=[{"key": "a", "value": "b"}],
    )
    arn, deployment = made["daemonArn"], made["deploymentArn"]
    of = {"clusterArn": cluster, "capacityProviderArns": ["FARGATE"], "daemonTaskDefinitionArn": first}
    fails(INVALID, ecs.create_daemon, daemonName="logs", **of)
    fails(CLIENT, ecs.create_daemon, daemonName="x", **of | {"daemonTaskDefinitionArn": first[:-1] + "9"})
    fails(NO_CLUSTER, ecs.create_daemon, daemonName="x", **of | {"clusterArn": cluster + "-nowhere"})
    successful = lambda one: ecs.describe_daemon_deployments(daemonDeploymentArns=[one])["daemonDeployments"][0]["status"]
    until("the daemon to run", lambda: successful(deployment) == "SUCCESSFUL")
    ecs.get_waiter("daemon_deployment_successful").wait(daemonDeploymentArns=[deployment])
    tasks = ecs.list_tasks(cluster="prod", daemonName="logs")["taskArns"]
    task = ecs.describe_tasks(cluster="prod", tasks=tasks, include=["TAGS"])["tasks"][0]
    assert task["group"] == "daemon:logs" and task["taskDefinitionArn"] == first, task
    assert task["tags"] == [{"key": "a", "value": "b"}], task
    assert "logs" not in str(ecs.list_services(cluster="prod")), "a daemon is no service"
    fails(INVALID, ecs.describe_services, cluster="prod", services=[arn])
    daemon = ecs.describe_daemon(daemonArn=arn)["daemon"]
    assert daemon["status"] == "ACTIVE" and daemon["currentRevisions"][0]["totalRunningCount"] == len(tasks), daemon
    ecs.get_waiter("daemon_active").wait(daemonArn=arn)
    fails("DaemonNotFoundException", ecs.describe_daemon, daemonArn=arn + "-x")
    assert [one["daemonArn"] for one in ecs.list_daemons(clusterArn=cluster)["daemonSummariesList"]] == [arn]
    assert ecs.list_daemons(clusterArn=cluster, capacityProviderArns=["ec2-cp"])["daemonSummariesList"] == []
    fails(NO_CLUSTER, ecs.list_daemons, clusterArn=cluster + "-nowhere")

    of = {"daemonTaskDefinitionArn": second, "capacityProviderArns": ["FARGATE"]}
    updated = ecs.update_daemon(daemonArn=arn, critical=False, **of)
    assert updated["deploymentArn"] != deployment, updated
    fails("DaemonNotFoundException", ecs.update_daemon, daemonArn=arn + "-x", **of)
    until("the daemon to be updated", lambda: successful(updated["deploymentArn"]) == "SUCCESSFUL")
    described = ecs.describe_daemon_deployments(daemonDeploymentArns=[updated["deploymentArn"], deployment[:-21] + "0" * 21])
    revision = described["daemonDeployments"][0]["targetDaemonRevision"]["arn"]
    assert described["failures"][0]["reason"] == "MISSING", described
    fails(INVALID, ecs.describe_daemon_deployments, daemonDeploymentArns=[])
    described = ecs.describe_daemon_revisions(daemonRevisionArns=[revision])["daemonRevisions"][0]
    assert described["daemonTaskDefinitionArn"] == second and not described["critical"], described
    fails(INVALID, ecs.describe_daemon_revisions, daemonRevisionArns=["x"])
    listed = ecs.list_daemon_deployments(daemonArn=arn)["daemonDeployments"]
    assert [one["daemonDeploymentArn"] for one in listed] == [updated["deploymentArn"], deployment], listed
    fails(INVALID, ecs.list_daemon_deployments, daemonArn=arn + "-x", text="Daemon not found")

    ecs.tag_resource(resourceArn=arn, tags=[{"key": "env", "value": "test"}])
    assert len(ecs.list_tags_for_resource(resourceArn=arn)["tags"]) == 2
    assert ecs.delete_daemon(daemonArn=arn)["status"] == "DELETE_IN_PROGRESS"
    fails("DaemonNotFoundException", ecs.delete_daemon, daemonArn=arn + "-x")
    until("the daemon to be gone", lambda: not ecs.list_daemons(clusterArn=cluster)["daemonSummariesList"])
    ecs.delete_daemon_task_definition(daemonTaskDefinition=first)
    fails(CLIENT, ecs.delete_daemon_task_definition, daemonTaskDefinition="nobody:1")
    ecs.get_waiter("daemon_task_definition_deleted").wait(daemonTaskDefinition=first)


def tags():
    arn = "arn:aws:ecs:us-east-1:123456789012:cluster/prod"
    ecs.tag_resource(resourceArn=arn, tags=[{"key": "env", "value": "test"}])
    assert {one["key"] for one in ecs.list_tags_for_resource(resourceArn=arn)["tags"]} == {"team", "env"}
    ecs.untag_resource(resourceArn=arn, tagKeys=["env"])
    assert [one["key"] for one in ecs.list_tags_for_resource(resourceArn=arn)["tags"]] == ["team"]
    nowhere = arn.replace("prod", "nowhere")
    fails(NO_CLUSTER, ecs.tag_resource, resourceArn=nowhere, tags=[{"key": "a", "value": "b"}])
    fails(INVALID, ecs.untag_resource, resourceArn="nonsense", tagKeys=["a"])
    fails(NO_CLUSTER, ecs.list_tags_for_resource, resourceArn=nowhere)


def the_end():
    for service in ("web", "ext"):
        fails(INVALID, ecs.delete_service, cluster="prod", service=service, text="scaled above 0")
        ecs.delete_service(cluster="prod", service=service, force=True)
    fails("ServiceNotFoundException", ecs.delete_service, cluster="prod", service="nobody")
    inactive = lambda: all(
        one["status"] == "INACTIVE" for one in ecs.describe_services(cluster="prod", services=["web", "ext"])["services"]
    )
    until("the services to be gone", inactive)
    ecs.get_waiter("services_inactive").wait(cluster="prod", services=["web", "ext"])
    until("the tasks to be gone", lambda: not ecs.list_tasks(cluster="prod")["taskArns"])
    assert ecs.delete_cluster(cluster="prod")["cluster"]["status"] == "INACTIVE"
    fails(NO_CLUSTER, ecs.delete_cluster, cluster="prod")


def gateways():
    role = "arn:aws:iam::123456789012:role/r"
    unsupported = "UnsupportedFeatureException"
    fails(unsupported, ecs.create_gateway, name="g", infrastructureRoleArn=role, configuration={})
    fails(unsupported, ecs.create_express_gateway_service, infrastructureRoleArn=role)
    for call in (
        ecs.describe_gateway,
        ecs.describe_gateway_resources,
        ecs.update_gateway,
        ecs.delete_gateway,
    ):
        fails("GatewayNotFoundException", call, gateway="g")
    for call in (ecs.associate_gateway_with_cluster, ecs.disassociate_gateway_from_cluster):
        fails("GatewayNotFoundException", call, gateway="g", cluster="prod")
    fails("ResourceNotFoundException", ecs.describe_gateway_route, gatewayRouteArn="arn")
    fails("ResourceNotFoundException", ecs.describe_express_gateway_service, serviceArn="arn")
    for call in (ecs.update_express_gateway_service, ecs.delete_express_gateway_service):
        fails("ServiceNotFoundException", call, serviceArn="arn")
    assert ecs.list_gateways()["gateways"] == []
    assert ecs.list_gateway_cluster_associations()["gatewayClusterAssociations"] == []
    assert ecs.list_gateway_routes()["gatewayRoutes"] == []
    for call in (ecs.list_gateways, ecs.list_gateway_cluster_associations, ecs.list_gateway_routes):
        fails(INVALID, call, maxResults=101)


clusters()
account_settings()
task_definitions()
ecs.register_task_definition(
    family="stuck",
    networkMode="awsvpc",
    containerDefinitions=[{"name": "web", "image": HTTP_IMAGE}],
    requiresCompatibilities=["FARGATE"],
    cpu="256",
    # More than any node has.
    memory="100000000",
)
instance = container_instances()
tasks(instance)
services()
task_sets()
daemons()
tags()
gateways()
the_end()

every = set(MODEL.operation_names)
# What cannot succeed here, and what cannot fail.
no_success = {name for name in every if "Gateway" in name and not name.startswith("List")} | {
    "UpdateContainerAgent",
    "ContinueServiceDeployment",
} | nobody_executes
assert every - succeeded == no_success, f"did not succeed: {sorted(every - succeeded - no_success)}"
assert every == failed, f"did not fail: {sorted(every - failed)}"
print(f"{len(succeeded)} of {len(every)} operations succeeded, {len(failed)} failed as they should")
