"""Sends every ECS operation at least once with boto3, so that it succeeds and so that it fails; the server at
AWS_ENDPOINT_URL writes down what it is asked and answers. See examples/record.rs.
"""

import os
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ecs = boto3.client(
    "ecs",
    region_name="us-east-1",
    aws_access_key_id="test",
    aws_secret_access_key="test",
    config=Config(parameter_validation=False, retries={"max_attempts": 1}),
)
REGION = "arn:aws:ecs:us-east-1:123456789012"
NODE = "0" * 31 + "7"
NOBODY = "0" * 32
ROLE = "arn:aws:iam::123456789012:role/r"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-a"], "securityGroups": ["sg-1"]}}


def call(operation, **request):
    """What an operation answers; nothing when it is refused, which is written down as well."""
    try:
        return getattr(ecs, operation)(**request)
    except ClientError:
        return {}


# Clusters, capacity providers, account settings.
call("create_cluster", clusterName="prod", settings=[{"name": "containerInsights", "value": "enabled"}], tags=[{"key": "a", "value": "b"}])
call("create_cluster", clusterName="no spaces")
call("describe_clusters", clusters=["prod", "nowhere"], include=["CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"])
call("describe_clusters", clusters=["c"] * 101)
token = call("list_clusters", maxResults=1)["nextToken"]
call("list_clusters", maxResults=1, nextToken=token)
call("list_clusters", nextToken="nonsense")
call("update_cluster", cluster="prod", configuration={"executeCommandConfiguration": {"logging": "DEFAULT"}})
call("update_cluster", cluster="nowhere")
call("update_cluster_settings", cluster="prod", settings=[{"name": "containerInsights", "value": "enhanced"}])
call("update_cluster_settings", cluster="prod", settings=[{"name": "containerInsights", "value": "maybe"}])
group = {"autoScalingGroupArn": "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:x:autoScalingGroupName/a"}
call("create_capacity_provider", name="ec2-cp", autoScalingGroupProvider=group | {"managedScaling": {"status": "ENABLED"}})
call("create_capacity_provider", name="ec2-cp", autoScalingGroupProvider=group)
call("create_capacity_provider", name="aws-cp", autoScalingGroupProvider=group)
call("update_capacity_provider", name="ec2-cp", autoScalingGroupProvider={"managedDraining": "DISABLED"})
call("update_capacity_provider", name="nobody", autoScalingGroupProvider={"managedDraining": "DISABLED"})
call("describe_capacity_providers", capacityProviders=["FARGATE", "ec2-cp", "nobody"], include=["TAGS"])
call("describe_capacity_providers", maxResults=1)
call("describe_capacity_providers", maxResults=11)
strategy = [{"capacityProvider": "ec2-cp", "weight": 1, "base": 2}]
call("put_cluster_capacity_providers", cluster="prod", capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=strategy)
call("put_cluster_capacity_providers", cluster="prod", capacityProviders=["ec2-cp"], defaultCapacityProviderStrategy=strategy)
call("delete_capacity_provider", capacityProvider="ec2-cp")
call("put_cluster_capacity_providers", cluster="prod", capacityProviders=[], defaultCapacityProviderStrategy=[])
call("delete_capacity_provider", capacityProvider="ec2-cp")
call("put_account_setting", name="containerInsights", value="enhanced", principalArn="arn:aws:iam::123456789012:user/anna")
call("put_account_setting", name="containerInsights", value="maybe")
call("put_account_setting_default", name="fargateTaskRetirementWaitPeriod", value="14")
call("put_account_setting_default", name="taskLongArnFormat", value="disabled")
call("list_account_settings", effectiveSettings=True, maxResults=10)
call("list_account_settings", value="enabled")
call("delete_account_setting", name="fargateTaskRetirementWaitPeriod")
call("delete_account_setting", name="nonsense")
call("tag_resource", resourceArn=f"{REGION}:cluster/prod", tags=[{"key": "env", "value": "test"}])
call("tag_resource", resourceArn=f"{REGION}:cluster/nowhere", tags=[{"key": "env", "value": "test"}])
call("list_tags_for_resource", resourceArn=f"{REGION}:cluster/prod")
call("list_tags_for_resource", resourceArn="nonsense")
call("untag_resource", resourceArn=f"{REGION}:cluster/prod", tagKeys=["env"])
call("untag_resource", resourceArn=f"{REGION}:service/prod/nobody", tagKeys=["env"])

# Container instances.
call("list_container_instances", cluster="prod", status="ACTIVE")
call("list_container_instances", cluster="nowhere")
call("describe_container_instances", cluster="prod", containerInstances=[NODE, NOBODY], include=["TAGS", "CONTAINER_INSTANCE_HEALTH"])
call("describe_container_instances", cluster="prod", containerInstances=[])
call("put_attributes", cluster="prod", attributes=[{"name": "disk", "value": "ssd", "targetId": NODE}])
call("put_attributes", cluster="prod", attributes=[{"name": "disk", "targetId": NOBODY}])
call("put_attributes", cluster="prod", attributes=[{"name": f"a{n}", "targetId": NODE} for n in range(10)])
call("list_attributes", cluster="prod", targetType="container-instance", attributeName="disk")
call("list_attributes", cluster="prod", targetType="container-instance", attributeValue="ssd")
call("delete_attributes", cluster="prod", attributes=[{"name": "disk", "targetId": NODE}])
call("delete_attributes", cluster="prod", attributes=[{"name": "disk"}])
call("update_container_instances_state", cluster="prod", containerInstances=[NODE, NOBODY], status="DRAINING")
call("update_container_instances_state", cluster="prod", containerInstances=[NODE], status="ACTIVE")
call("update_container_instances_state", cluster="prod", containerInstances=[NODE], status="REGISTERING")
call("update_container_agent", cluster="prod", containerInstance=NODE)
resources = [{"name": "CPU", "type": "INTEGER", "integerValue": 2048}, {"name": "MEMORY", "type": "INTEGER", "integerValue": 3955}]
registered = call(
    "register_container_instance",
    cluster="prod",
    instanceIdentityDocument='{"instanceId": "i-1"}',
    totalResources=resources,
    attributes=[{"name": "rack", "value": "7"}],
)["containerInstance"]["containerInstanceArn"]
call("register_container_instance", cluster="prod", instanceIdentityDocument="{")
call("update_container_agent", cluster="prod", containerInstance=registered)
call("deregister_container_instance", cluster="prod", containerInstance=registered)
call("deregister_container_instance", cluster="prod", containerInstance=registered)
call("discover_poll_endpoint", cluster="prod", containerInstance=NODE)
call("discover_poll_endpoint", cluster="no spaces")

# Task definitions.
web = {
    "family": "web",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [
        {"name": "web", "image": "acme/web:1", "portMappings": [{"containerPort": 80}], "secrets": [{"name": "A", "valueFrom": "arn"}]}
    ],
}
call("register_task_definition", **web)
call("register_task_definition", **web, tags=[{"key": "team", "value": "shop"}])
call("register_task_definition", family="job", containerDefinitions=[{"name": "job", "image": "acme/job:1", "memory": 64}])
call("register_task_definition", family="bad", containerDefinitions=[])
call("describe_task_definition", taskDefinition="web", include=["TAGS"])
call("describe_task_definition", taskDefinition="nobody")
call("list_task_definitions", familyPrefix="web", sort="DESC")
call("list_task_definitions", maxResults=0)
call("list_task_definition_families")
call("list_task_definition_families", status="SOME")
call("deregister_task_definition", taskDefinition="web:1")
call("deregister_task_definition", taskDefinition="web")
call("delete_task_definitions", taskDefinitions=["web:1", "web:2"])
call("delete_task_definitions", taskDefinitions=[])

# Tasks.
run = {"cluster": "prod", "taskDefinition": "web", "launchType": "FARGATE"}
task = call("run_task", **run, networkConfiguration=NETWORK, enableExecuteCommand=True, clientToken="t", startedBy="ci")["tasks"][0]
call("run_task", **run, clientToken="u")
call("run_task", **run | {"taskDefinition": "nobody"}, clientToken="v")
call("run_task", **run, networkConfiguration=NETWORK, clientToken="t", count=2)
call("run_task", **run, networkConfiguration=NETWORK, clientToken="w", platformVersion="9")
arn = task["taskArn"]
job = call("start_task", cluster="prod", taskDefinition="job", containerInstances=[NODE, NOBODY])["tasks"][0]["taskArn"]
call("start_task", cluster="prod", taskDefinition="nobody", containerInstances=[NODE])
call("describe_tasks", cluster="prod", tasks=[arn, NOBODY], include=["TAGS"])
call("describe_tasks", cluster="prod", tasks=["abc"])
call("list_tasks", cluster="prod", family="web")
call("list_tasks", cluster="prod", serviceName="nobody")
call("execute_command", cluster="prod", task=arn, command="ls -l", interactive=True)
call("execute_command", cluster="prod", task=job, command="ls -l", interactive=True)
call("execute_command", cluster="prod", task=arn, command="ls -l", interactive=False)
call("submit_task_state_change", cluster="prod", task=arn, status="RUNNING")
call("submit_task_state_change", cluster="prod", task=arn, status="STOPPED")
call("submit_container_state_change", cluster="prod", task=arn, containerName="web", status="RUNNING")
call("submit_container_state_change", cluster="prod", task=arn, containerName="nobody", status="RUNNING")
attachment = f"{REGION}:attachment/{task['attachments'][0]['id']}"
call("submit_attachment_state_changes", cluster="prod", attachments=[{"attachmentArn": attachment, "status": "ATTACHED"}])
call("submit_attachment_state_changes", cluster="prod", attachments=[{"attachmentArn": "nonsense", "status": "ATTACHED"}])
call("get_task_protection", cluster="prod", tasks=[arn, NOBODY])
call("get_task_protection", cluster="nowhere")
call("update_task_protection", cluster="prod", tasks=[arn], protectionEnabled=True)
call("update_task_protection", cluster="prod", tasks=[arn], protectionEnabled=True, expiresInMinutes=2881)
call("deregister_container_instance", cluster="prod", containerInstance=NODE)
call("stop_task", cluster="prod", task=arn, reason="enough")
call("stop_task", cluster="prod", task=NOBODY)
call("describe_tasks", cluster="prod", tasks=[arn])

# Services.
service = {"cluster": "prod", "serviceName": "web", "taskDefinition": "web", "networkConfiguration": NETWORK}
made = call(
    "create_service",
    **service,
    launchType="FARGATE",
    desiredCount=2,
    deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
    serviceConnectConfiguration={"enabled": True, "namespace": "shop"},
    propagateTags="SERVICE",
    tags=[{"key": "team", "value": "shop"}],
)["service"]
call("create_service", **service)
call("create_service", cluster="prod", serviceName="x", taskDefinition="web")
call("create_service", **service | {"serviceName": "x"}, deploymentController={"type": "CODE_DEPLOY"})
call("create_service", **service | {"serviceName": "x"}, healthCheckGracePeriodSeconds=9)
call("describe_services", cluster="prod", services=["web", "nobody"], include=["TAGS"])
call("describe_services", cluster="prod", services=[])
call("list_services", cluster="prod")
call("list_services", cluster="nowhere")
call("list_services_by_namespace", namespace="shop")
call("list_services_by_namespace", namespace="")
call("update_service", cluster="prod", service="web", desiredCount=1, forceNewDeployment=True)
call("update_service", cluster="prod", service="nobody")
deployment, revision = made["currentServiceDeployment"], made["currentServiceRevisions"][0]["arn"]
call("list_service_deployments", cluster="prod", service="web", status=["STOPPED"])
call("list_service_deployments", cluster="prod", service="nobody")
call("describe_service_deployments", serviceDeploymentArns=[deployment, deployment[:-21] + "0" * 21])
call("describe_service_deployments", serviceDeploymentArns=["nonsense"])
call("describe_service_revisions", serviceRevisionArns=[revision])
call("describe_service_revisions", serviceRevisionArns=[])
call("stop_service_deployment", serviceDeploymentArn=deployment)
newest = call("describe_services", cluster="prod", services=["web"])["services"][0]["currentServiceDeployment"]
call("continue_service_deployment", serviceDeploymentArn=newest, hookId="nobody")
call("stop_service_deployment", serviceDeploymentArn=newest, stopType="ABORT")
call("delete_service", cluster="prod", service="web")
call("delete_service", cluster="prod", service="web", force=True)

# Task sets.
call("create_service", cluster="prod", serviceName="ext", desiredCount=4, deploymentController={"type": "EXTERNAL"})
of = {"cluster": "prod", "service": "ext"}
scale = {"value": 25.0, "unit": "PERCENT"}
made = call("create_task_set", **of, taskDefinition="web", launchType="FARGATE", networkConfiguration=NETWORK, scale=scale)["taskSet"]["id"]
call("create_task_set", **of, taskDefinition="nobody")
call("update_task_set", **of, taskSet=made, scale={"value": 50.0, "unit": "PERCENT"})
call("update_task_set", **of, taskSet="ecs-svc/" + "1" * 19, scale=scale)
call("update_service_primary_task_set", **of, primaryTaskSet=made)
call("update_service_primary_task_set", **of, primaryTaskSet="nonsense")
call("describe_task_sets", **of, include=["TAGS"])
call("describe_task_sets", cluster="prod", service="nobody")
call("delete_task_set", **of, taskSet=made)
call("delete_task_set", **of, taskSet=made, force=True)

# Daemons.
container = {"name": "agent", "image": "acme/agent:1", "memory": 64}
definition = call("register_daemon_task_definition", family="agent", containerDefinitions=[container])["daemonTaskDefinitionArn"]
call("register_daemon_task_definition", family="agent", containerDefinitions=[])
call("describe_daemon_task_definition", daemonTaskDefinition="agent")
call("describe_daemon_task_definition", daemonTaskDefinition="nobody")
call("list_daemon_task_definitions")
call("list_daemon_task_definitions", maxResults=0)
of = {"daemonTaskDefinitionArn": definition, "capacityProviderArns": ["FARGATE"]}
daemon = call("create_daemon", daemonName="logs", clusterArn="prod", **of)
call("create_daemon", daemonName="logs", clusterArn="prod", **of)
call("describe_daemon", daemonArn=daemon["daemonArn"])
call("describe_daemon", daemonArn=daemon["daemonArn"] + "-x")
call("list_daemons", clusterArn="prod")
call("list_daemons", clusterArn="nowhere")
updated = call("update_daemon", daemonArn=daemon["daemonArn"], critical=False, **of)["deploymentArn"]
call("update_daemon", daemonArn=daemon["daemonArn"], critical=False, daemonTaskDefinitionArn=definition)
call("list_daemon_deployments", daemonArn=daemon["daemonArn"], status=["IN_PROGRESS"])
call("list_daemon_deployments", daemonArn="nonsense")
described = call("describe_daemon_deployments", daemonDeploymentArns=[updated])["daemonDeployments"][0]
call("describe_daemon_deployments", daemonDeploymentArns=[])
call("describe_daemon_revisions", daemonRevisionArns=[described["targetDaemonRevision"]["arn"]])
call("describe_daemon_revisions", daemonRevisionArns=["nonsense"])
call("delete_daemon", daemonArn=daemon["daemonArn"])
call("delete_daemon", daemonArn=daemon["daemonArn"])
call("delete_daemon_task_definition", daemonTaskDefinition=definition)
call("delete_daemon_task_definition", daemonTaskDefinition="nobody:1")

# Gateways.
call("create_gateway", name="g", infrastructureRoleArn=ROLE, configuration={}, clientToken="x")
call("create_express_gateway_service", infrastructureRoleArn=ROLE)
for name in ("describe_gateway", "describe_gateway_resources", "update_gateway", "delete_gateway"):
    call(name, gateway="g")
for name in ("associate_gateway_with_cluster", "disassociate_gateway_from_cluster"):
    call(name, gateway="g", cluster="prod")
call("describe_gateway_route", gatewayRouteArn="arn")
for name in ("describe", "update", "delete"):
    call(f"{name}_express_gateway_service", serviceArn="arn")
for name in ("list_gateways", "list_gateway_cluster_associations", "list_gateway_routes"):
    call(name)
    call(name, maxResults=101)

call("delete_cluster", cluster="prod")
call("create_cluster", clusterName="empty")
call("delete_cluster", cluster="empty")

urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/done").read()
