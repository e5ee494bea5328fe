// kafka-dev: a Kafka for development and tests, on librdkafka's mock cluster, with the two commands that scripts
// need beside it. Real sockets, real protocol; producers, consumers and groups of any client library work.
//
// What the mock (librdkafka 2.0.2, src/rdkafka_mock*.c) can't do, so that nobody looks for the fault elsewhere:
//   - A partition keeps its last 5 MiB or 100,000 message sets; older ones are dropped without a word, consumed or
//     not. Spread larger backlogs over more partitions, or consume while producing.
//   - Everything is in memory: topics, messages and offsets end with the process. The port is chosen by the system.
//   - No CreateTopics and no other admin requests: topics come from --topics, or with 4 partitions by first use.
//     No ACLs, TLS or SASL, no retention by time, no compaction, no quotas.
//   - A fetch returns one message set of a partition, and a fetch that finds nothing waits for its whole
//     `fetch.max.wait.ms` even if messages arrive meanwhile. Neither latency nor throughput is Kafka's.
//   - A group's first member waits 3 seconds for others; a further one up to `session.timeout.ms` minus 1 second. While
//     an eager rebalance is under way offset commits are refused (Kafka takes them until all members have joined).

import CKafka
import Glibc

let usage = """
    usage: kafka-dev serve --topics NAME:PARTITIONS[,...] [--brokers N] [--exit-with-stdin]
           kafka-dev serve --topics-from-stdin [--brokers N]
               prints "ready HOST:PORT[,HOST:PORT...]" and serves until SIGTERM or SIGINT
               (with --exit-with-stdin also until standard input ends); with --topics-from-stdin each line
               NAME:PARTITIONS makes a topic, "created NAME" answers it, and the end of standard input ends it
           kafka-dev produce --bootstrap-servers HOST:PORT --topic NAME [--partition N] [--key-field NAME]
               sends each line of standard input as a message; the key is the value of the line's top-level
               JSON field NAME; prints how many were acknowledged
           kafka-dev committed --bootstrap-servers HOST:PORT --group NAME --topic NAME
               prints "partition committed-offset end-offset" for each partition; -1 for no committed offset

    """

var arguments = Array(CommandLine.arguments.dropFirst())
let command = arguments.isEmpty ? "" : arguments.removeFirst()
do {
    switch command {
    case "serve":
        let options = try Options(
            arguments, flags: ["--exit-with-stdin", "--topics-from-stdin"], values: ["--topics", "--brokers"])
        let input: StandardInput =
            options.has("--topics-from-stdin") ? .topics : options.has("--exit-with-stdin") ? .untilItEnds : .ignored
        let topics = input == .topics ? options.value("--topics") ?? "" : try options.required("--topics")
        try serve(
            topics: topics.split(separator: ",").map(TopicSpecification.init),
            brokers: Int32(try options.number("--brokers") ?? 1), input: input)
    case "produce":
        let options = try Options(
            arguments, values: ["--bootstrap-servers", "--topic", "--partition", "--key-field"])
        let producer = try Producer(
            bootstrapServers: try options.required("--bootstrap-servers"), topic: try options.required("--topic"),
            partition: try options.number("--partition").map(Int32.init), keyField: options.value("--key-field"))
        let counts = try producer.sendStandardInput()
        print(counts.acknowledged)
        if counts.failed > 0 { throw Failure("\(counts.failed) messages were not acknowledged: \(counts.lastError)") }
    case "committed":
        let options = try Options(arguments, values: ["--bootstrap-servers", "--group", "--topic"])
        try printCommitted(
            bootstrapServers: try options.required("--bootstrap-servers"), group: try options.required("--group"),
            topic: try options.required("--topic"))
    case "help", "--help", "-h":
        print(usage, terminator: "")
    default:
        throw WrongUsage(command.isEmpty ? "a command is needed" : "unknown command \"\(command)\"")
    }
} catch let error as WrongUsage {
    writeError("kafka-dev: \(error.reason)\n\(usage)")
    exit(64)
} catch {
    writeError("kafka-dev: \(error)\n")
    exit(1)
}
