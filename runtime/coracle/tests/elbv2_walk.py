"""Elastic Load Balancing v2 through boto3: every action, what it refuses, and requests through a listener.

Run with the port that listeners may use."""

import http.client
import http.server
import sys
import threading
import time

import boto3
from botocore.exceptions import ClientError

elb = boto3.client("elbv2")
port = int(sys.argv[1])


def refused(code, action, **members):
    try:
        action(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} was expected")


def until(what, condition):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting for {what}")


def get(path, host="example.com"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": host})
    response = connection.getresponse()
    return response.status, response.read().decode(), response


# Load balancers.
new = dict(Name="web", Subnets=["subnet-a", "subnet-b"], SecurityGroups=["sg-1"], Tags=[{"Key": "team", "Value": "shop"}])
balancer = elb.create_load_balancer(**new)["LoadBalancers"][0]
arn = balancer["LoadBalancerArn"]
assert elb.create_load_balancer(**new)["LoadBalancers"][0]["LoadBalancerArn"] == arn
refused("DuplicateLoadBalancerName", elb.create_load_balancer, Name="web", Subnets=["subnet-x"])
refused("ValidationError", elb.create_load_balancer, Name="internal-x", Subnets=["subnet-x"])
refused("ValidationError", elb.create_load_balancer, Name="web2")
refused("LoadBalancerNotFound", elb.describe_load_balancers, Names=["nope"])
elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[arn])
assert balancer["DNSName"] == "web.us-east-1.elb.localhost", balancer
assert [zone["SubnetId"] for zone in balancer["AvailabilityZones"]] == ["subnet-a", "subnet-b"]
assert len(elb.set_subnets(LoadBalancerArn=arn, Subnets=["subnet-c", "subnet-d"])["AvailabilityZones"]) == 2
assert elb.set_security_groups(LoadBalancerArn=arn, SecurityGroups=["sg-2"])["SecurityGroupIds"] == ["sg-2"]
assert elb.set_ip_address_type(LoadBalancerArn=arn, IpAddressType="dualstack")["IpAddressType"] == "dualstack"
attributes = [{"Key": "deletion_protection.enabled", "Value": "true"}]
assert attributes[0] in elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=attributes)["Attributes"]
refused("OperationNotPermitted", elb.delete_load_balancer, LoadBalancerArn=arn)
attributes[0]["Value"] = "false"
elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=attributes)
assert len(elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]) > 10

# Target groups.
blue = elb.create_target_group(
    Name="blue", Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip", HealthCheckPath="/health"
)["TargetGroups"][0]
green = elb.create_target_group(Name="green", Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip")["TargetGroups"][0]
blue_arn, green_arn = blue["TargetGroupArn"], green["TargetGroupArn"]
assert (blue["HealthCheckPath"], blue["Matcher"], blue["LoadBalancerArns"]) == ("/health", {"HttpCode": "200"}, [])
refused("DuplicateTargetGroupName", elb.create_target_group, Name="blue", Protocol="HTTP", Port=81)
refused("TargetGroupNotFound", elb.describe_target_groups, Names=["nope"])
changed = elb.modify_target_group(TargetGroupArn=blue_arn, HealthCheckPath="/", HealthCheckIntervalSeconds=5)
assert changed["TargetGroups"][0]["HealthCheckIntervalSeconds"] == 5
delay = [{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}]
assert delay[0] in elb.modify_target_group_attributes(TargetGroupArn=blue_arn, Attributes=delay)["Attributes"]
assert delay[0] in elb.describe_target_group_attributes(TargetGroupArn=blue_arn)["Attributes"]

# Listeners and rules.
forward = [{"Type": "forward", "TargetGroupArn": blue_arn}]
listener = elb.create_listener(LoadBalancerArn=arn, Protocol="HTTP", Port=port, DefaultActions=forward)["Listeners"][0]
listener_arn = listener["ListenerArn"]
other = [{"Type": "forward", "TargetGroupArn": green_arn}]
refused("DuplicateListener", elb.create_listener, LoadBalancerArn=arn, Protocol="HTTP", Port=port, DefaultActions=other)
refused("UnsupportedProtocol", elb.create_listener, LoadBalancerArn=arn, Protocol="TCP", Port=1, DefaultActions=other)
message = refused("ValidationError", elb.create_listener, LoadBalancerArn=arn, Protocol="HTTPS", Port=1, DefaultActions=other)
assert message == "A certificate must be specified for HTTPS listeners", message
taken = int(elb.meta.endpoint_url.rsplit(":", 1)[1])
message = refused(
    "InvalidConfigurationRequest", elb.create_listener,
    LoadBalancerArn=arn, Protocol="HTTP", Port=taken, DefaultActions=other,
)
assert "in use" in message, message
refused("ResourceInUse", elb.delete_target_group, TargetGroupArn=blue_arn)
assert elb.describe_target_groups(LoadBalancerArn=arn)["TargetGroups"][0]["TargetGroupName"] == "blue"
assert len(elb.describe_listener_attributes(ListenerArn=listener_arn)["Attributes"]) > 10
elb.modify_listener_attributes(
    ListenerArn=listener_arn, Attributes=[{"Key": "routing.http.response.server.enabled", "Value": "false"}]
)
fixed = [{
    "Type": "fixed-response",
    "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "hello", "ContentType": "text/plain"},
}]
path = [{"Field": "path-pattern", "Values": ["/fixed*"]}]
rule = elb.create_rule(ListenerArn=listener_arn, Priority=10, Conditions=path, Actions=fixed)["Rules"][0]
refused("PriorityInUse", elb.create_rule, ListenerArn=listener_arn, Priority=10, Conditions=path, Actions=other)
redirect = [{"Type": "redirect", "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"}}]
host = [{"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.org"]}}]
second = elb.create_rule(ListenerArn=listener_arn, Priority=20, Conditions=host, Actions=redirect)["Rules"][0]
elb.set_rule_priorities(RulePriorities=[
    {"RuleArn": rule["RuleArn"], "Priority": 20}, {"RuleArn": second["RuleArn"], "Priority": 10},
])
rules = elb.describe_rules(ListenerArn=listener_arn)["Rules"]
assert [(one["Priority"], one["RuleArn"]) for one in rules[:2]] == [("10", second["RuleArn"]), ("20", rule["RuleArn"])]
assert (rules[2]["Priority"], rules[2]["IsDefault"]) == ("default", True)
refused("OperationNotPermitted", elb.delete_rule, RuleArn=rules[2]["RuleArn"])
elb.modify_rule(RuleArn=rule["RuleArn"], Conditions=[{"Field": "path-pattern", "Values": ["/fixed", "/fixed/*"]}])
refused("ValidationError", elb.describe_rules)

# What has no resource of its own.
resources = [arn, blue_arn, listener_arn, rule["RuleArn"]]
elb.add_tags(ResourceArns=resources, Tags=[{"Key": "a", "Value": "1"}])
elb.remove_tags(ResourceArns=[arn], TagKeys=["team"])
for described in elb.describe_tags(ResourceArns=resources)["TagDescriptions"]:
    assert described["Tags"] == [{"Key": "a", "Value": "1"}], described
assert len(elb.describe_ssl_policies()["SslPolicies"]) > 5
assert elb.describe_account_limits()["Limits"][0]["Max"].isdigit()
assert elb.describe_trust_stores()["TrustStores"] == []
for name in ["p0", "p1", "p2"]:
    elb.create_target_group(Name=name, Protocol="HTTP", Port=80)
pages = elb.get_paginator("describe_target_groups").paginate(PaginationConfig={"PageSize": 2})
groups = {group["TargetGroupName"]: group["TargetGroupArn"] for page in pages for group in page["TargetGroups"]}
assert list(groups) == ["blue", "green", "p0", "p1", "p2"], groups
for name in ["p0", "p1", "p2"]:
    elb.delete_target_group(TargetGroupArn=groups[name])

# Requests.
until("the listener", lambda: get("/fixed")[:2] == (404, "hello"))
assert get("/", "a.example.org")[2].getheader("location") == "https://a.example.org:443/"
assert get("/")[0] == 503


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "6")
        self.end_headers()
        self.wfile.write(b"static")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
target = {"Id": "127.0.0.1", "Port": server.server_port}
elb.register_targets(TargetGroupArn=blue_arn, Targets=[target])
elb.get_waiter("target_in_service").wait(TargetGroupArn=blue_arn, Targets=[target], WaiterConfig={"Delay": 1})
assert get("/")[:2] == (200, "static")
unknown = elb.describe_target_health(TargetGroupArn=blue_arn, Targets=[{"Id": "10.9.9.9", "Port": 1}])
health = unknown["TargetHealthDescriptions"][0]["TargetHealth"]
assert (health["State"], health["Reason"]) == ("unused", "Target.NotRegistered"), health
elb.deregister_targets(TargetGroupArn=blue_arn, Targets=[target])
elb.get_waiter("target_deregistered").wait(TargetGroupArn=blue_arn, Targets=[target], WaiterConfig={"Delay": 1})

# Two load balancers on one port are told apart by their hosts.
second_arn = elb.create_load_balancer(Name="other", Subnets=["subnet-a"])["LoadBalancers"][0]["LoadBalancerArn"]
elb.create_listener(LoadBalancerArn=second_arn, Protocol="HTTP", Port=port, DefaultActions=fixed)
until("the second load balancer", lambda: get("/x", "other.us-east-1.elb.localhost")[:2] == (404, "hello"))
assert get("/x")[0] == 503

# The end.
elb.delete_load_balancer(LoadBalancerArn=second_arn)
elb.delete_rule(RuleArn=second["RuleArn"])
elb.delete_listener(ListenerArn=listener_arn)
refused("ListenerNotFound", elb.delete_listener, ListenerArn=listener_arn)


def is_closed():
    try:
        get("/")
    except ConnectionRefusedError:
        return True
    return False


until("the port to close", is_closed)
elb.delete_load_balancer(LoadBalancerArn=arn)
elb.delete_load_balancer(LoadBalancerArn=arn)
elb.delete_target_group(TargetGroupArn=blue_arn)
refused("TargetGroupNotFound", elb.describe_target_health, TargetGroupArn=blue_arn)
