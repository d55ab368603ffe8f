"""The commands of ECS tutorials and scripts, letter by letter, run by the AWS CLI in one process; or by the one that
CORACLE_TEST_AWS_CLI names, such as version 2, which is not on PyPI.

Usage: cli_as_people_write_it.py HTTP_IMAGE COMMAND_IMAGE
"""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

HTTP_IMAGE, COMMAND_IMAGE = sys.argv[1:3]
CLI = os.environ.get("CORACLE_TEST_AWS_CLI")
os.environ["AWS_DEFAULT_OUTPUT"] = "json"


def aws(line, fails=None):
    """Runs one command line, with the variables of Python's caller filled in by the caller."""
    code, out, err = run(shlex.split(line)[1:])
    if fails:
        assert code != 0 and fails in err, f"{line}\nshould fail with {fails}, not {code}: {err}"
        return None
    assert code == 0, f"{line}\n{err}"
    return json.loads(out) if out.strip() else None


def run(arguments):
    """The exit code and both outputs."""
    if CLI:
        ended = subprocess.run([CLI, *arguments], capture_output=True, text=True)
        return ended.returncode, ended.stdout, ended.stderr
    # Not before: it sets AWS_DATA_PATH, and another version must not see that.
    from awscli.clidriver import create_clidriver

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = create_clidriver().main(arguments)
    return code, out.getvalue(), err.getvalue()


def until(what, condition, deadline=90):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"timed out waiting for {what}")


definition = {
    "family": "web-app",
    "taskRoleArn": "arn:aws:iam::123456789012:role/webTaskRole",
    "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "512",
    "memory": "1024",
    "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
    "containerDefinitions": [
        {
            "name": "web",
            "image": HTTP_IMAGE,
            "cpu": 256,
            "memory": 512,
            "memoryReservation": 256,
            "essential": True,
            "portMappings": [{"containerPort": 80, "protocol": "tcp", "name": "http", "appProtocol": "http"}],
            "environment": [{"name": "ENVIRONMENT", "value": "production"}],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": "/ecs/web-app",
                    "awslogs-region": "us-east-1",
                    "awslogs-stream-prefix": "web",
                    "awslogs-create-group": "true",
                },
            },
            "ulimits": [{"name": "nofile", "softLimit": 65536, "hardLimit": 65536}],
            "stopTimeout": 120,
        }
    ],
    "tags": [{"key": "team", "value": "shop"}],
}
with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    json.dump(definition, file)
    file.flush()
    for revision in (1, 2):
        made = aws(f"aws ecs register-task-definition --cli-input-json file://{file.name}")["taskDefinition"]
        assert made["revision"] == revision
        for member, value in definition.items():
            if member not in ("tags", "containerDefinitions"):
                assert made[member] == value, member
job = [{"name": "migrate", "image": COMMAND_IMAGE, "memory": 64}]
aws(f"aws ecs register-task-definition --family migrate --container-definitions '{json.dumps(job)}'")
NETWORK = "awsvpcConfiguration={subnets=[subnet-a,subnet-b],securityGroups=[sg-1],assignPublicIp=DISABLED}"

aws("aws ecs create-cluster --cluster-name prod --settings name=containerInsights,value=enabled")
LB = aws("aws elbv2 create-load-balancer --name web --subnets subnet-a subnet-b")["LoadBalancers"][0]["LoadBalancerArn"]
group = "aws elbv2 create-target-group --protocol HTTP --port 80 --target-type ip --vpc-id vpc-1 --health-check-path /"
TG, GREEN = (aws(f"{group} --name {name}")["TargetGroups"][0]["TargetGroupArn"] for name in ("web-blue", "web-green"))
listener = f"aws elbv2 create-listener --load-balancer-arn {LB} --protocol HTTP --port 80"
L = aws(f"{listener} --default-actions Type=forward,TargetGroupArn={TG}")["Listeners"][0]["ListenerArn"]
aws(
    "aws ecs create-service --cluster prod --service-name web --task-definition web-app:1 --desired-count 3"
    f" --launch-type FARGATE --network-configuration '{NETWORK}'"
    f" --load-balancers 'targetGroupArn={TG},containerName=web,containerPort=80' --health-check-grace-period-seconds 60"
    " --deployment-configuration"
    " 'maximumPercent=200,minimumHealthyPercent=100,deploymentCircuitBreaker={enable=true,rollback=true}'"
    " --enable-execute-command"
)


def service(name="web"):
    return aws(f"aws ecs describe-services --cluster prod --services {name}")["services"][0]


def is_stable(running, name="web"):
    one = service(name)
    return len(one["deployments"]) == 1 and one["runningCount"] == running == one["desiredCount"]


until("three tasks", lambda: is_stable(3))
aws("aws ecs wait services-stable --cluster prod --services web")
aws("aws ecs update-service --cluster prod --service web --task-definition web-app:2 --force-new-deployment")
until("the update", lambda: is_stable(3) and service()["taskDefinition"].endswith("web-app:2"))
aws("aws ecs update-service --cluster prod --service web --desired-count 6")
until("six tasks", lambda: is_stable(6))
assert any("has reached a steady state" in event["message"] for event in service()["events"])
assert "TargetHealthDescriptions" in aws(f"aws elbv2 describe-target-health --target-group-arn {TG}")

overrides = {"containerOverrides": [{"name": "migrate", "command": ["echo", "up"], "environment": [{"name": "BATCH", "value": "7"}]}]}
TASK = aws(
    "aws ecs run-task --cluster prod --task-definition migrate --count 1 --started-by ci-42"
    f" --overrides '{json.dumps(overrides)}'"
)["tasks"][0]["taskArn"]
until("the task to stop", lambda: aws(f"aws ecs describe-tasks --cluster prod --tasks {TASK}")["tasks"][0]["lastStatus"] == "STOPPED")
aws(f"aws ecs wait tasks-stopped --cluster prod --tasks {TASK}")
answer = aws(f"aws ecs describe-tasks --cluster prod --tasks {TASK} --query 'tasks[0].containers[0].[exitCode,reason]'")
assert answer[0] == 0, answer

aws(
    "aws ecs create-service --cluster prod --service-name spread --task-definition migrate --desired-count 0"
    " --placement-strategy type=spread,field=attribute:ecs.availability-zone type=binpack,field=memory"
    " --placement-constraints type=distinctInstance"
)
aws(
    "aws ecs create-service --cluster prod --service-name spot --task-definition web-app --desired-count 0"
    f" --network-configuration '{NETWORK}' --capacity-provider-strategy"
    " capacityProvider=FARGATE,weight=70,base=2 capacityProvider=FARGATE_SPOT,weight=30"
)
ASG = "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:x:autoScalingGroupName/a"
aws(
    "aws ecs create-capacity-provider --name ec2-cp --auto-scaling-group-provider"
    f" 'autoScalingGroupArn={ASG},managedScaling={{status=ENABLED,targetCapacity=80}}'"
)
aws(
    "aws ecs put-cluster-capacity-providers --cluster prod --capacity-providers FARGATE FARGATE_SPOT ec2-cp"
    " --default-capacity-provider-strategy capacityProvider=ec2-cp,weight=1,base=2"
)
ID = aws("aws ecs list-container-instances --cluster prod")["containerInstanceArns"][0]
aws(f"aws ecs update-container-instances-state --cluster prod --container-instances {ID} --status DRAINING")
aws(f"aws ecs update-container-instances-state --cluster prod --container-instances {ID} --status ACTIVE")
blue_green = [
    {
        "Type": "forward",
        "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": TG, "Weight": 90}, {"TargetGroupArn": GREEN, "Weight": 10}]
        },
    }
]
aws(f"aws elbv2 modify-listener --listener-arn {L} --default-actions '{json.dumps(blue_green)}'")
aws(
    f"aws elbv2 modify-target-group-attributes --target-group-arn {TG}"
    " --attributes Key=deregistration_delay.timeout_seconds,Value=30"
)
aws("aws logs filter-log-events --log-group-name /ecs/web-app --start-time 1733702400000")
aws("aws ecs describe-task-definition --task-definition nobody", fails="ClientException")
aws("aws ecs list-tasks --cluster nowhere", fails="ClusterNotFoundException")
print("every command worked")
