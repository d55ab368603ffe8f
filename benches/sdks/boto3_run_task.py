"""`boto3_run_task.py ENDPOINT FAMILY TASKS`: runs so many tasks, one after the other, through boto3.

Prints a line for each: how long DescribeClusters took through the same client, when RunTask was called, and how long its
answer took, all in microseconds (the second since 1970), and the task's ARN.
"""

import sys
import time

import boto3

endpoint, family, tasks = sys.argv[1:]
ecs = boto3.client(
    "ecs",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="bench",
    aws_secret_access_key="bench",
)
for _ in range(int(tasks)):
    # The task before has ended by then.
    time.sleep(0.005)
    begun = time.perf_counter_ns()
    ecs.describe_clusters()
    described = time.perf_counter_ns() - begun
    called, begun = time.time_ns(), time.perf_counter_ns()
    answer = ecs.run_task(taskDefinition=family, launchType="FARGATE")
    answered = time.perf_counter_ns() - begun
    [task] = answer["tasks"]
    print(described // 1000, called // 1000, answered // 1000, task["taskArn"])
