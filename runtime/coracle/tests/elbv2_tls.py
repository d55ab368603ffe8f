"""HTTPS listeners through boto3: certificates are imported, chosen by the name a client asks for, and kept.

Run with the port that a listener may use and a directory that holds NAME.pem and NAME.key for two names."""

import http.client
import pathlib
import socket
import ssl
import sys
import time

import boto3
from botocore.exceptions import ClientError

port, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])
NAMES = ["shop.example.com", "other.example.com"]
acm, elb = boto3.client("acm"), boto3.client("elbv2")


def refused(code, action, **members):
    try:
        action(**members)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        return error.response["Error"]["Message"]
    raise AssertionError(f"{code} was expected")


def pem(name, kind):
    return (directory / f"{name}.{kind}").read_bytes()


def get(name):
    context = ssl.create_default_context(cafile=str(directory / f"{name}.pem"))
    deadline = time.monotonic() + 120
    while True:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        try:
            raw = socket.create_connection(("127.0.0.1", port), 60)
            connection.sock = context.wrap_socket(raw, server_hostname=name)
            connection.request("GET", "/", headers={"Host": name})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (ConnectionRefusedError, ssl.SSLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


arns = [
    acm.import_certificate(Certificate=pem(name, "pem"), PrivateKey=pem(name, "key"))["CertificateArn"]
    for name in NAMES
]
message = refused(
    "ValidationException", acm.import_certificate,
    Certificate=pem(NAMES[0], "pem"), PrivateKey=pem(NAMES[1], "key"),
)
assert "not the one of the certificate" in message, message
described = acm.describe_certificate(CertificateArn=arns[0])["Certificate"]
assert NAMES[0] in described["SubjectAlternativeNames"], described
assert (described["Status"], described["Type"], described["InUseBy"]) == ("ISSUED", "IMPORTED", []), described
assert {one["CertificateArn"] for one in acm.list_certificates()["CertificateSummaryList"]} == set(arns)
assert acm.get_certificate(CertificateArn=arns[0])["Certificate"].encode() == pem(NAMES[0], "pem")
acm.add_tags_to_certificate(CertificateArn=arns[0], Tags=[{"Key": "a", "Value": "1"}])
assert acm.list_tags_for_certificate(CertificateArn=arns[0])["Tags"] == [{"Key": "a", "Value": "1"}]

balancer = elb.create_load_balancer(Name="web", Subnets=["subnet-a", "subnet-b"])["LoadBalancers"][0]
fixed = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200", "MessageBody": "secret"}}]
new = dict(LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTPS", Port=port, DefaultActions=fixed)
unknown = [{"CertificateArn": arns[0].replace("certificate/", "certificate/0000")[:len(arns[0])]}]
refused("CertificateNotFound", elb.create_listener, Certificates=unknown, **new)
refused("SSLPolicyNotFound", elb.create_listener, Certificates=[{"CertificateArn": arns[0]}], SslPolicy="x", **new)
listener = elb.create_listener(Certificates=[{"CertificateArn": arns[0]}], **new)["Listeners"][0]
assert listener["SslPolicy"] == "ELBSecurityPolicy-2016-08", listener
assert get(NAMES[0]) == (200, "secret")

elb.add_listener_certificates(ListenerArn=listener["ListenerArn"], Certificates=[{"CertificateArn": arns[1]}])
assert get(NAMES[1]) == (200, "secret")
certificates = elb.describe_listener_certificates(ListenerArn=listener["ListenerArn"])["Certificates"]
assert [(one["CertificateArn"], one["IsDefault"]) for one in certificates] == [(arns[0], True), (arns[1], False)]
refused("ResourceInUseException", acm.delete_certificate, CertificateArn=arns[1])
refused(
    "OperationNotPermitted", elb.remove_listener_certificates,
    ListenerArn=listener["ListenerArn"], Certificates=[{"CertificateArn": arns[0]}],
)
elb.remove_listener_certificates(ListenerArn=listener["ListenerArn"], Certificates=[{"CertificateArn": arns[1]}])
acm.delete_certificate(CertificateArn=arns[1])
refused("ResourceNotFoundException", acm.describe_certificate, CertificateArn=arns[1])
