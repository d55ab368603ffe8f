"""A deployment that breaks what it is for is rolled back by its alarm; the official client does everything."""

import os
import sys
import time
import urllib.error
import urllib.request

import boto3

ecs, cloudwatch = boto3.client("ecs"), boto3.client("cloudwatch")
router = os.environ["CORACLE_TEST_ROUTER"]
[image] = sys.argv[1:]


def wait(what, condition):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"timed out waiting for {what}")


def get(path):
    request = urllib.request.Request(router + path, headers={"Host": "web.default.localhost"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def service():
    return ecs.describe_services(services=["web"])["services"][0]


def alarm():
    return cloudwatch.describe_alarms(AlarmNames=["web-errors"])["MetricAlarms"][0]


for revision in ("good", "bad"):
    ecs.register_task_definition(
        family="web",
        requiresCompatibilities=["FARGATE"],
        cpu="256",
        memory="256",
        containerDefinitions=[
            {"name": "web", "image": image, "environment": [{"name": "REVISION", "value": revision}]}
        ],
    )
ecs.create_service(serviceName="web", taskDefinition="web:1", desiredCount=2, launchType="FARGATE")
wait("the first deployment", lambda: service()["deployments"][0]["rolloutState"] == "COMPLETED")

definition = {
    "AlarmName": "web-errors",
    "AlarmDescription": "answers with 5XX",
    "Namespace": "Coracle/Router",
    "MetricName": "HTTPCode_Target_5XX_Count",
    "Dimensions": [{"Name": "ClusterName", "Value": "default"}, {"Name": "ServiceName", "Value": "web"}],
    "Statistic": "Sum",
    "Period": 10,
    "EvaluationPeriods": 1,
    "Threshold": 3,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
    "Tags": [{"Key": "team", "Value": "shop"}],
}
cloudwatch.put_metric_alarm(**definition)
shown = alarm()
for name in definition.keys() - {"Tags"}:
    assert shown[name] == definition[name], (name, shown)
assert cloudwatch.list_tags_for_resource(ResourceARN=shown["AlarmArn"])["Tags"] == definition["Tags"]
wait("values", lambda: alarm()["StateValue"] == "OK")

ecs.update_service(
    service="web",
    taskDefinition="web:2",
    deploymentConfiguration={"alarms": {"enable": True, "rollback": True, "alarmNames": ["web-errors"]}},
)


def rolled_back():
    assert get("/status?code=500") == 500
    [first, *_] = service()["deployments"]
    return first["taskDefinition"].endswith(":1") and first["rolloutState"] == "COMPLETED"


wait("the rollback", rolled_back)
assert any("deployment failed: alarm detected." in event["message"] for event in service()["events"])
arns = ecs.list_service_deployments(service="web")["serviceDeployments"]
[record] = ecs.describe_service_deployments(serviceDeploymentArns=[arns[0]["serviceDeploymentArn"]])["serviceDeployments"]
assert record["status"] == "ROLLBACK_SUCCESSFUL", record
assert record["alarms"] == {"status": "TRIGGERED", "alarmNames": ["web-errors"], "triggeredAlarmNames": ["web-errors"]}
assert alarm()["StateValue"] == "ALARM" and "Threshold Crossed" in alarm()["StateReason"]
wait("quiet", lambda: alarm()["StateValue"] == "OK")

# By hand: what a script does that has its own opinion of a deployment.
ecs.update_service(service="web", taskDefinition="web:2")
cloudwatch.set_alarm_state(AlarmName="web-errors", StateValue="ALARM", StateReason="the smoke test failed")
wait("the rollback", lambda: service()["deployments"][0]["taskDefinition"].endswith(":1"))

wait("quiet", lambda: service()["deployments"][0]["rolloutState"] == "COMPLETED")

# By values a program of ours sends, and by an alarm about alarms.
cloudwatch.put_metric_alarm(
    AlarmName="carts-left",
    Namespace="Shop",
    MetricName="CartsLeft",
    Dimensions=[{"Name": "Page", "Value": "cart"}],
    Statistic="Sum",
    Period=10,
    EvaluationPeriods=1,
    Threshold=10,
    ComparisonOperator="GreaterThanThreshold",
    TreatMissingData="notBreaching",
)
cloudwatch.put_composite_alarm(
    AlarmName="shop", AlarmRule='ALARM("carts-left") OR ALARM("web-errors")', AlarmDescription="either"
)


def composite():
    return cloudwatch.describe_alarms(AlarmNames=["shop"], AlarmTypes=["CompositeAlarm"])["CompositeAlarms"][0]


wait("the composite alarm", lambda: composite()["StateValue"] == "OK")
ecs.update_service(
    service="web",
    taskDefinition="web:2",
    deploymentConfiguration={"alarms": {"enable": True, "rollback": True, "alarmNames": ["shop"]}},
)


def left():
    datum = {"MetricName": "CartsLeft", "Dimensions": [{"Name": "Page", "Value": "cart"}], "Values": [20.0], "Counts": [2.0]}
    cloudwatch.put_metric_data(Namespace="Shop", MetricData=[datum])
    return service()["deployments"][0]["taskDefinition"].endswith(":1")


wait("the rollback", left)
assert composite()["StateValue"] == "ALARM" and '"carts-left" transitioned to ALARM' in composite()["StateReason"], composite()
[metric] = cloudwatch.list_metrics(Namespace="Shop")["Metrics"]
assert metric["MetricName"] == "CartsLeft", metric
found = cloudwatch.get_metric_statistics(
    **metric, Statistics=["Maximum"], Period=60, StartTime=time.time() - 600, EndTime=time.time() + 60
)
assert found["Datapoints"][0]["Maximum"] == 20.0, found
cloudwatch.delete_alarms(AlarmNames=["shop", "carts-left"])

try:
    cloudwatch.set_alarm_state(AlarmName="none", StateValue="OK", StateReason="x")
    raise AssertionError("there is no such alarm")
except cloudwatch.exceptions.ResourceNotFound:
    pass
cloudwatch.delete_alarms(AlarmNames=["web-errors"])
assert cloudwatch.describe_alarms()["MetricAlarms"] == []
