import IngestCore
import Logging
import Metrics
import Testing

@testable import Kafka

@Suite struct ConfigurationTests {
    private func problem(_ change: (inout KafkaSourceConfiguration) -> Void) -> KafkaConfigurationError? {
        var configuration = KafkaSourceConfiguration(bootstrapServers: "127.0.0.1:1", topics: ["t"], groupID: "g")
        change(&configuration)
        do throws(KafkaConfigurationError) {
            try configuration.validate()
            return nil
        } catch {
            return error
        }
    }

    @Test func theDefaultsAreValid() { #expect(problem { _ in } == nil) }

    @Test(arguments: [
        ("no.such.property", "1"), ("session.timeout.ms", "soon"), ("auto.offset.reset", "sometimes"),
        ("enable.auto.commit", "true"), ("enable.auto.offset.store", "true"), ("auto.commit.enable", "true"),
        ("enable.auto.commit", "false"), ("bootstrap.servers", "elsewhere:1"), ("group.id", "other"),
    ])
    func aBadPropertyIsNamed(name: String, value: String) throws {
        let error = try #require(problem { $0.properties = [(name, value)] })
        #expect(error.property == name)
        #expect(error.description.contains(name))
    }

    @Test func combinationsThatLibrdkafkaRefusesAreReportedAtOnce() throws {
        let error = try #require(
            problem { $0.properties = [("session.timeout.ms", "60000"), ("max.poll.interval.ms", "10000")] })
        #expect(error.description.contains("max.poll.interval.ms"))
        let missing = try #require(
            problem { $0.properties = [("security.protocol", "ssl"), ("ssl.ca.location", "/no/such/file")] })
        #expect(missing.description.contains("ssl.ca.location"))
        // The source relies on it: it takes the protocol from the strategies' names.
        #expect(problem { $0.properties = [("partition.assignment.strategy", "range,cooperative-sticky")] } != nil)
    }

    @Test func propertiesOfTheUserWin() throws {
        #expect(problem { $0.properties = [("partition.assignment.strategy", "range,roundrobin")] } == nil)
        #expect(problem { $0.properties = [("auto.offset.reset", "latest")] } == nil)
    }

    @Test func settingsOutOfRangeAreNamed() {
        #expect(problem { $0.topics = [] }?.property == "topics")
        #expect(problem { $0.bootstrapServers = "" }?.property == "bootstrap.servers")
        #expect(problem { $0.groupID = "" }?.property == "group.id")
        #expect(problem { $0.maximumInFlightBytes = 1 }?.property == "maximumInFlightBytes")
        #expect(problem { $0.commitIntervalMilliseconds = 0 }?.property == "commitIntervalMilliseconds")
    }

    @Test func restartsAreDelayedLongerAndLonger() {
        var backoff = RestartBackoff(minimumMilliseconds: 1_000, maximumMilliseconds: 60_000)
        var delays: [Int] = []
        for _ in 0..<8 { delays.append(backoff.next(afterRunningMilliseconds: 10, jitter: 0)) }
        #expect(delays == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000])
        #expect(backoff.next(afterRunningMilliseconds: 10, jitter: 0.5) == 45_000)
        #expect(backoff.next(afterRunningMilliseconds: 60_001, jitter: 0) == 1_000)
    }
}
