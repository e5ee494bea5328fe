"""stack.yml keeps the rules of docs/deploy.md, and tools/stack says what is wrong; with a docker that is a script."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import unittest

import yaml

from clickhouse_fixture import ROOT
from stack_fixture import FAKE_DOCKER, ONE_SHOTS, StackToolCase, read, seconds, stack


class StackFileTests(unittest.TestCase):
    def setUp(self):
        self.stack = stack()
        self.services = self.stack["services"]
        self.running = {name: service for name, service in self.services.items() if name not in ONE_SHOTS}

    def test_docker_accepts_it(self):
        # Needs the client only, which reads the whole file before it looks for a daemon; there is none at this address.
        if not shutil.which("docker"):
            self.skipTest("no docker")
        environment = os.environ | {"DOCKER_HOST": f"unix://{ROOT}/no-daemon-here"}

        def docker(*arguments):
            return subprocess.run(
                ["docker", "stack", *arguments], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60
            )  # fmt: skip

        checked = docker("deploy", "--compose-file", "stack.yml", "ingestd")
        self.assertRegex(checked.stderr, "connect to the Docker daemon at .*no-daemon-here", "got past the file")
        self.assertNotIn("gnoring", checked.stderr, "nothing in it that Swarm ignores")

        if not re.search(r"^  config ", docker("--help").stdout, re.MULTILINE):
            return  # Docker 20.10, which is Debian 12's, has no such command
        answer = docker("config", "--compose-file", "stack.yml")
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))
        shown = yaml.safe_load(answer.stdout)
        self.assertEqual(set(shown["services"]), set(self.services))
        self.assertEqual(shown["services"]["ingestion-service"]["ports"][0]["published"], 8080)

    def test_has_all_services_with_pinned_images(self):
        expected = {"ingestion-service", "kafka", "clickhouse", "prometheus", "grafana"} | ONE_SHOTS
        self.assertEqual(set(self.services), expected)
        for name, service in self.services.items():
            self.assertRegex(service["image"], r"^[a-z/-]+:v?\d+(\.\d+)+$", name)
            self.assertFalse({"build", "depends_on", "restart", "container_name"} & set(service), name)

    def test_services_are_checked_limited_updated_and_rolled_back(self):
        for name, service in self.running.items():
            with self.subTest(name):
                health, deploy = service["healthcheck"], service["deploy"]
                self.assertEqual(health["test"][0], "CMD")
                self.assertGreaterEqual(seconds(health["start_period"]), 30)
                self.assertLess(seconds(health["timeout"]), seconds(health["interval"]))
                self.assertEqual(deploy["update_config"]["failure_action"], "rollback")
                for change in (deploy["update_config"], deploy["rollback_config"]):
                    self.assertEqual((change["order"], change["parallelism"]), ("stop-first", 1))
                    self.assertGreater(seconds(change["monitor"]), seconds(health["interval"]) * health["retries"] // 2)
                self.assertEqual(deploy["restart_policy"]["condition"], "any")
        for name, service in self.services.items():
            self.assertEqual(set(service["deploy"]["resources"]["limits"]), {"cpus", "memory"}, name)
            self.assertEqual(service["deploy"]["placement"]["constraints"], ["node.labels.ingestd.data == true"], name)

    def test_initialization_ends_and_is_tried_again(self):
        for name in ONE_SHOTS:
            service = self.services[name]
            policy = service["deploy"]["restart_policy"]
            self.assertEqual(policy["condition"], "on-failure", name)
            self.assertNotIn("max_attempts", policy, "Swarm waits for nobody, so it is tried until the others are up")
            # The image's own check would ask a service that does not run in this container.
            self.assertEqual(service["healthcheck"], {"disable": True}, name)

    def test_each_replica_has_a_journal_and_a_name_of_its_own(self):
        service = self.services["ingestion-service"]
        self.assertEqual(service["volumes"], [{"type": "volume", "source": "journal", "target": "/var/lib/ingestd"}])
        self.assertIn("{{.Task.Slot}}", self.stack["volumes"]["journal"]["name"])
        self.assertIn("{{.Task.Slot}}", service["environment"]["KAFKA_GROUP_INSTANCE_ID"])
        self.assertTrue(service["environment"]["JOURNAL_PATH"].startswith("/var/lib/ingestd/"))
        self.assertTrue(service["read_only"])

    def test_stopping_is_given_the_time_that_it_takes(self):
        service = self.services["ingestion-service"]
        revoke = re.search(r"`KAFKA_REVOKE_TIMEOUT` \| `(\w+)`", read("docs/configuration.md"))[1]
        takes = seconds(service["environment"]["SHUTDOWN_TIMEOUT"]) + seconds(revoke)
        self.assertGreater(seconds(service["stop_grace_period"]), takes)

    def test_environment_consists_of_settings(self):
        reference = read("docs/configuration.md")
        known = set(re.findall(r"^\| `([A-Z_]+)` \|", reference, re.MULTILINE))
        listed = re.search(r"- Secrets \((.*?)\) can be read", reference)[1]
        known |= {f"{name}_FILE" for name in re.findall(r"`([A-Z_]+)`", listed)}
        self.assertGreater(len(known), 60)
        for name in ("ingestion-service", "kafka-init"):
            self.assertEqual(set(self.services[name]["environment"]) - known, set(), name)
        inits = set(re.findall(r"^#   ((?:CLICKHOUSE|EVENTS)_[A-Z_]+)", read("tools/migrate"), re.MULTILINE))
        inits |= {f"{name}_FILE" for name in inits}
        self.assertEqual(set(self.services["schema-init"]["environment"]) - inits, set())

    def test_secrets_are_objects_of_swarm(self):
        for name, secret in self.stack["secrets"].items():
            self.assertEqual(secret, {"external": True, "name": f"ingestd_{name}_1"})
        for name, service in self.services.items():
            for key, value in service.get("environment", {}).items():
                if re.search("PASSWORD|TOKEN|SECRET", key):
                    self.assertRegex(key, "_FILE$", name)
                    target = value.removeprefix("/run/secrets/")
                    self.assertIn(target, [secret["target"] for secret in service["secrets"]], key)
        user = re.search(r"USER (\d+):", read("Dockerfile"))[1]
        for secret in self.services["ingestion-service"]["secrets"]:
            self.assertEqual((secret["uid"], secret["mode"]), (user, 0o400))

    def test_networks_keep_apart_what_need_not_meet(self):
        members = {network: set() for network in self.stack["networks"]}
        for name, service in self.services.items():
            for network in service["networks"]:
                members[network].add(name)
        expected = {
            "edge": {"ingestion-service"},
            "data": {"ingestion-service", "kafka", "clickhouse"} | ONE_SHOTS,
            "monitoring": {"ingestion-service", "prometheus", "grafana"},
        }
        self.assertEqual(members, expected)
        self.assertTrue(all(network["driver"] == "overlay" for network in self.stack["networks"].values()))
        self.assertTrue(self.stack["networks"]["data"]["internal"])
        published = {name for name, service in self.services.items() if "ports" in service}
        self.assertEqual(published, {"ingestion-service", "grafana"})

    def test_configs_are_named_by_their_content(self):
        text = read("stack.yml")
        for name, config in yaml.safe_load(text)["configs"].items():
            self.assertIn("${CONFIG_" + name.upper() + ":-0}", config["name"])
            self.assertTrue(os.path.exists(os.path.join(ROOT, config["file"])), config["file"])

    def test_prometheus_finds_all_replicas_and_shows_its_token(self):
        job = yaml.safe_load(read("deploy/stack/prometheus.yml"))["scrape_configs"][0]
        service = self.services["ingestion-service"]
        alias = job["dns_sd_configs"][0]["names"][0].removeprefix("tasks.")
        self.assertIn(alias, service["networks"]["monitoring"]["aliases"])
        self.assertEqual(str(job["dns_sd_configs"][0]["port"]), service["environment"]["HTTP_PORT"])
        target = self.services["prometheus"]["secrets"][0]["target"]
        self.assertEqual(job["authorization"]["credentials_file"], f"/run/secrets/{target}")
        # Elsewhere the two files may say the same things only: alerts and dashboard know the names.
        other = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["scrape_configs"][0]
        self.assertEqual(job["job_name"], other["job_name"])

    def test_image_stops_by_signal_and_is_not_root(self):
        text = read("Dockerfile")
        for line in ("STOPSIGNAL SIGTERM", 'ENTRYPOINT ["/usr/local/bin/ingestd"]', "USER 10001:10001"):
            self.assertIn(f"\n{line}\n", text)
        for base in re.findall(r"^ARG \w+_IMAGE=(\S+)$", text, re.MULTILINE):
            self.assertRegex(base, r":\d+\.\d+")
        check = self.services["ingestion-service"]["healthcheck"]["test"]
        self.assertIn(f"CMD {json.dumps(check[1:])}", text)


class StackToolTests(StackToolCase):
    def test_no_docker_and_no_daemon(self):
        os.remove(f"{self.folder}/bin/docker")
        os.symlink(os.path.realpath(sys.executable), f"{self.folder}/bin/python3")
        self.refused("docker is not installed", "apt-get install", PATH=f"{self.folder}/bin")
        self.write("bin/docker", "#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
        os.chmod(f"{self.folder}/bin/docker", 0o755)
        self.refused("does not answer", "systemctl start docker")
        self.write("bin/docker", "#!/bin/sh\necho 'permission denied while trying to connect' >&2\nexit 1\n")
        self.refused("group docker")

    def test_no_swarm(self):
        self.write("swarm", '{"LocalNodeState":"inactive","ControlAvailable":false}')
        self.refused("not in a Swarm", "docker swarm init", "STACK_SWARM_INIT=1")
        self.assertNotIn("swarm init", self.fake("calls"), "only when asked")
        answer = self.run_tool(STACK_SWARM_INIT="1")
        self.assertEqual(answer.returncode, 0, answer.stderr)

    def test_worker_and_locked_swarm(self):
        self.write("swarm", '{"LocalNodeState":"active","ControlAvailable":false}')
        self.refused("worker", "docker node promote")
        self.write("swarm", '{"LocalNodeState":"locked"}')
        self.refused("docker swarm unlock")

    def test_port_in_use(self):
        with socket.create_server(("", 0)) as listener:
            port = str(listener.getsockname()[1])
            self.refused(f"port {port} is in use", "STACK_HTTP_PORT", STACK_HTTP_PORT=port)
            self.write("ports", f"web_front\t*:{port}->80/tcp\n")
            self.refused("the Swarm service web_front", STACK_HTTP_PORT=port)
            self.assertNotIn("stack deploy", self.fake("calls"))
            self.write("ports", f"ingestd_ingestion-service\t*:{port}->8080/tcp\n")
            answer = self.run_tool(STACK_HTTP_PORT=port)
            self.assertEqual(answer.returncode, 0, f"its own port: {answer.stderr}")
        self.refused("STACK_HTTP_PORT is no port", STACK_HTTP_PORT="http")

    def test_limits_of_cpus_that_the_node_has_not(self):
        self.assertEqual(self.run_tool().returncode, 0)
        self.assertNotIn("_CPUS", self.fake("environment"))
        self.write("cpus", "1")
        answer = self.run_tool()
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("CLICKHOUSE_CPUS is 1 instead of 4", answer.stdout)
        environment = set(self.fake("environment").split())
        self.assertLessEqual({"CLICKHOUSE_CPUS=1", "KAFKA_CPUS=1", "INGESTD_CPUS=1"}, environment)
        self.refused("KAFKA_CPUS is 1.5", "has 1 CPUs", KAFKA_CPUS="1.5")
        self.refused("KAFKA_CPUS is no number", KAFKA_CPUS="many")

    def test_missing_images_are_all_named(self):
        self.write("images", "")
        answer = self.refused("ingestion-service:7.0 ", "make stack-image TAG=7.0", "apache/kafka", "docker load", TAG="7.0")
        self.assertIn("no route to registry", answer.stderr)
        self.assertNotIn("secret create", self.fake("calls"), "nothing is changed before all is there")

    def test_deploys_and_can_be_run_again(self):
        answer = self.run_tool(TAG="0.1.0")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn(f"http://127.0.0.1:{self.environment['STACK_HTTP_PORT']}/v1/events", answer.stdout)
        self.assertIn("node update --label-add ingestd.data=true n1", self.fake("calls"))
        self.assertRegex(self.fake("environment"), r"CONFIG_PROMETHEUS=[0-9a-f]{12}\n")
        created = set(self.fake("secrets").split())
        self.assertEqual(created, {secret["name"] for secret in stack()["secrets"].values()})
        token = self.fake("mine/http_token")
        self.assertGreaterEqual(len(token), 32)
        self.assertEqual(os.stat(f"{self.folder}/mine/http_token").st_mode & 0o777, 0o600)
        for line in answer.stdout, answer.stderr, self.fake("calls"):
            self.assertNotIn(token, line, "secrets are neither printed nor arguments")
        # By that label `docker stack rm` would remove it.
        self.assertNotIn("com.docker.stack.namespace=ingestd ingestd_http_token_1", self.fake("calls"))
        users = self.fake("secret-ingestd_clickhouse_users_1")
        self.assertIn("<password_sha256_hex>", users)
        self.assertNotIn(self.fake("mine/clickhouse_password"), users)

        again = self.run_tool()
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(set(self.fake("secrets").split()), created)
        self.assertEqual(self.fake("calls").count("secret create"), len(created))

    def test_secrets_come_from_files(self):
        os.mkdir(f"{self.folder}/mine")
        self.write("mine/http_token", "my-token\n")
        self.assertEqual(self.run_tool(SECRETS_VERSION="2").returncode, 0)
        self.assertEqual(self.fake("secret-ingestd_http_token_2"), "my-token")
        self.write("mine/http_token", "two words")
        self.refused("mine/http_token", "without spaces", SECRETS_VERSION="3")

    def test_password_that_is_nowhere(self):
        self.write("secrets", "ingestd_clickhouse_password_1\n")
        self.refused("mine/clickhouse_password", "SECRETS_VERSION=2")
        self.write("secrets", "ingestd_clickhouse_users_1\n")
        self.refused("docker secret rm")

    def test_failed_update_and_services_that_do_not_come_up(self):
        self.write("update", '{"State":"rollback_completed","StartedAt":"2026-01-01T00:00:00Z"}')
        self.refused("failed, and it was rolled back", "non-zero exit (1)", "docker service logs ingestd_",
                     "with the earlier TAG")  # fmt: skip
        # One that is under way is waited for: only then everything is known.
        self.write("services", "")
        self.write("update", '{"State":"rollback_started","StartedAt":"2026-01-01T00:00:01Z"}')
        self.refused("not there after 0.2 s", "rolling back: task: non-zero exit (1)", STACK_TIMEOUT="0.2")
        self.write("update", '{"State":"rollback_completed","StartedAt":"2026-01-01T00:00:01Z"}')
        # The same state as before: it tells about an earlier deployment.
        answer = self.run_tool()
        self.assertEqual(answer.returncode, 0, answer.stderr)

        os.remove(f"{self.folder}/update")
        self.write("deployed", "ingestd_kafka\t0/1\n")
        self.refused("not there after 0.1 s", "ingestd_kafka: 0/1", "non-zero exit (1)", STACK_TIMEOUT="0.1")

    def test_down_leaves_volumes_unless_told(self):
        self.run_tool()
        self.write("bin/docker", FAKE_DOCKER.replace("esac", "    'ps '*|'network ls'*) ;;\nesac"))
        answer = self.run_tool("down")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertIn("volumes are still there: ingestd_journal-1", answer.stdout)
        self.assertNotIn("volume rm", self.fake("calls"))
        self.refused("keep or remove", command="down", STACK_VOLUMES="yes")
        again = self.run_tool("down", STACK_VOLUMES="remove")
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertIn("there is no stack ingestd", again.stdout)
        self.assertIn("volume rm ingestd_journal-1", self.fake("calls"))
        self.assertNotIn("secret rm", self.fake("calls"))


if __name__ == "__main__":
    unittest.main()
