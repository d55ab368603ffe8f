//! Elastic Load Balancing v2, as its clients send it.

use serde_json::json;

use crate::harness::Harness;

fn fixed(status: u16) -> String {
    format!(
        "Actions.member.1.Type=fixed-response&Actions.member.1.FixedResponseConfig.StatusCode={status}&\
         Actions.member.1.FixedResponseConfig.ContentType=text%2Fplain"
    )
}

fn condition(path: &str) -> String {
    format!("Conditions.member.1.Field=path-pattern&Conditions.member.1.Values.member.1={path}")
}

impl Harness {
    /// An ELBv2 action that is refused: the code of the error and its text.
    async fn elb_refused(&self, operation: &str, form: &str) -> (String, String) {
        let answer = self.elb(operation, form).await;
        assert_eq!(answer.status, 400, "{operation}: {}", answer.text);
        (answer.element("Code"), answer.element("Message"))
    }

    async fn listener(&self) -> String {
        self.target_group("web").await;
        let balancer = self.elb_made("DescribeLoadBalancers", "Names.member.1=web", "LoadBalancerArn").await;
        self.elb_made("DescribeListeners", &format!("LoadBalancerArn={balancer}"), "ListenerArn").await
    }
}

#[tokio::test]
async fn making_again_what_is_there_is_no_error_unless_it_differs() {
    let harness = Harness::new();
    let form = "Name=web&Subnets.member.1=subnet-a&Subnets.member.2=subnet-b";
    let first = harness.elb_made("CreateLoadBalancer", form, "LoadBalancerArn").await;
    assert_eq!(harness.elb_made("CreateLoadBalancer", form, "LoadBalancerArn").await, first);
    let other = harness.elb_refused("CreateLoadBalancer", &format!("{form}&Scheme=internal")).await;
    assert_eq!(other.0, "DuplicateLoadBalancerName");
    let form = "Name=web&Protocol=HTTP&Port=80";
    let first = harness.elb_made("CreateTargetGroup", form, "TargetGroupArn").await;
    assert_eq!(harness.elb_made("CreateTargetGroup", form, "TargetGroupArn").await, first);
    let other = harness.elb_refused("CreateTargetGroup", "Name=web&Protocol=HTTP&Port=81").await;
    assert_eq!(other.0, "DuplicateTargetGroupName");
}

#[tokio::test]
async fn a_name_belongs_to_a_region() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    let elsewhere = group.replace("us-east-1", "eu-west-1");
    let refused = harness.elb_refused("DescribeTargetHealth", &format!("TargetGroupArn={elsewhere}")).await;
    assert_eq!(refused.0, "TargetGroupNotFound");
}

#[tokio::test]
async fn rules_have_priorities_of_their_own() {
    let harness = Harness::new();
    let listener = harness.listener().await;
    let create = |path: &str, priority: u32| {
        format!("ListenerArn={listener}&Priority={priority}&{}&{}", condition(path), fixed(200))
    };
    let first = harness.elb_made("CreateRule", &create("/a", 1), "RuleArn").await;
    let second = harness.elb_made("CreateRule", &create("/b", 2), "RuleArn").await;
    let refused = harness.elb_refused("CreateRule", &create("/c", 2)).await;
    assert_eq!(
        refused,
        ("PriorityInUse".to_owned(), "Priority &apos;2&apos; is currently in use".to_owned())
    );
    let set = |pairs: &[(&str, u32)]| {
        let each = pairs.iter().zip(1..).map(|((arn, priority), n)| {
            format!("RulePriorities.member.{n}.RuleArn={arn}&RulePriorities.member.{n}.Priority={priority}")
        });
        each.collect::<Vec<_>>().join("&")
    };
    assert_eq!(harness.elb_refused("SetRulePriorities", &set(&[(&first, 2)])).await.0, "PriorityInUse");
    let swapped = harness.elb("SetRulePriorities", &set(&[(&first, 2), (&second, 1)])).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text);
    let all = harness.elb("DescribeRules", &format!("ListenerArn={listener}")).await;
    let at = |text: &str| all.text.find(text).unwrap_or_else(|| panic!("{text}: {}", all.text));
    assert!(at(&second) < at(&first) && at(&first) < at("<Priority>default</Priority>"));
    harness.elb_made("DeleteRule", &format!("RuleArn={first}"), "RequestId").await;
    assert_eq!(harness.elb_refused("DeleteRule", &format!("RuleArn={first}")).await.0, "RuleNotFound");
}

#[tokio::test]
async fn a_group_in_use_is_not_deleted_and_belongs_to_one_load_balancer() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    let refused = harness.elb_refused("DeleteTargetGroup", &format!("TargetGroupArn={group}")).await;
    assert_eq!(refused.0, "ResourceInUse");
    harness.target_group("other").await;
    let other = harness.elb_made("DescribeLoadBalancers", "Names.member.1=other", "LoadBalancerArn").await;
    let form = format!(
        "LoadBalancerArn={other}&Protocol=HTTP&Port=81&DefaultActions.member.1.Type=forward&\
         DefaultActions.member.1.TargetGroupArn={group}"
    );
    assert_eq!(harness.elb_refused("CreateListener", &form).await.0, "TargetGroupAssociationLimit");
    let balancer = harness.elb_made("DescribeLoadBalancers", "Names.member.1=web", "LoadBalancerArn").await;
    harness.elb_made("DeleteLoadBalancer", &format!("LoadBalancerArn={balancer}"), "RequestId").await;
    harness.elb_made("DeleteTargetGroup", &format!("TargetGroupArn={group}"), "RequestId").await;
    assert_eq!(harness.store.snapshot().listeners.size(), 1, "the other's is left");
}

#[tokio::test]
async fn targets_come_and_drain() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    let target = |address: &str| {
        format!("TargetGroupArn={group}&Targets.member.1.Id={address}&Targets.member.1.Port=8080")
    };
    let refused = harness.elb_refused("RegisterTargets", &target("i-0123456789abcdef0")).await;
    assert_eq!(refused.0, "ValidationError");
    harness.elb_made("RegisterTargets", &target("127.0.0.1"), "RequestId").await;
    let is = async |address: &str, state: &str| {
        let answer = harness.elb("DescribeTargetHealth", &target(address)).await;
        assert!(answer.text.contains(&format!("<State>{state}</State>")), "{}", answer.text);
    };
    is("127.0.0.1", "initial").await;
    is("127.0.0.2", "unused").await;
    harness.elb_made("DeregisterTargets", &target("127.0.0.1"), "RequestId").await;
    is("127.0.0.1", "draining").await;
    harness.elb_made("RegisterTargets", &target("127.0.0.1"), "RequestId").await;
    is("127.0.0.1", "initial").await;
}

#[tokio::test]
async fn a_service_needs_a_group_that_is_used() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    let group =
        harness.elb_made("CreateTargetGroup", "Name=web&Protocol=HTTP&Port=80", "TargetGroupArn").await;
    let create = |group: &str| {
        json!({
            "serviceName": "web", "taskDefinition": "app", "desiredCount": 1,
            "loadBalancers": [{"targetGroupArn": group, "containerName": "app", "containerPort": 80}],
        })
    };
    let refused = harness.refused("CreateService", create(&group)).await;
    let text =
        format!("The target group with targetGroupArn {group} does not have an associated load balancer.");
    assert_eq!(refused, ("InvalidParameterException".to_owned(), text));
    let missing = group.replace("/web/", "/nope/");
    assert!(harness.refused("CreateService", create(&missing)).await.1.contains("does not exist"));
}

#[tokio::test]
async fn pages_join_up() {
    let harness = Harness::new();
    for name in ["a", "b", "c"] {
        harness.elb_made("CreateTargetGroup", &format!("Name={name}&Protocol=HTTP&Port=80"), "Port").await;
    }
    let first = harness.elb("DescribeTargetGroups", "PageSize=2").await;
    assert_eq!(first.text.matches("<TargetGroupName>").count(), 2);
    let marker = first.element("NextMarker");
    let second = harness.elb("DescribeTargetGroups", &format!("PageSize=2&Marker={marker}")).await;
    assert_eq!(second.element("TargetGroupName"), "c");
    assert!(!second.text.contains("NextMarker"));
    assert_eq!(harness.elb_refused("DescribeTargetGroups", "Marker=nonsense").await.0, "ValidationError");
}

#[tokio::test]
async fn a_regular_expression_has_to_be_one() {
    let harness = Harness::new();
    let listener = harness.listener().await;
    let form = format!(
        "ListenerArn={listener}&Priority=1&Conditions.member.1.Field=path-pattern&\
         Conditions.member.1.PathPatternConfig.RegexValues.member.1=%28&{}",
        fixed(200)
    );
    let refused = harness.elb_refused("CreateRule", &form).await;
    assert_eq!(refused.0, "ValidationError");
    assert!(refused.1.contains("regular expression"), "{}", refused.1);
}

#[tokio::test]
async fn an_attribute_with_a_value_it_does_not_take_changes_nothing() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    let set = |key: &str, value: &str| {
        format!("TargetGroupArn={group}&Attributes.member.1.Key={key}&Attributes.member.1.Value={value}")
    };
    let (code, text) =
        harness.elb_refused("ModifyTargetGroupAttributes", &set("coracle.retries.percentage", "101")).await;
    assert_eq!(code, "ValidationError");
    assert!(text.contains("coracle.retries.percentage") && text.contains("a number from 0 to 100"), "{text}");
    let misspelt = harness.elb_refused("ModifyTargetGroupAttributes", &set("coracle.retry", "1")).await;
    assert_eq!(misspelt.0, "ValidationError");
    let attributes = harness.elb("DescribeTargetGroupAttributes", &format!("TargetGroupArn={group}")).await;
    assert!(!attributes.text.contains("coracle."), "{}", attributes.text);
    let set = set("coracle.retries.percentage", "50");
    let answer = harness.elb("ModifyTargetGroupAttributes", &set).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("coracle.retries.percentage"), "{}", answer.text);
}
