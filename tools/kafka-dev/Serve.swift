import CKafka
import Glibc

/// What standard input is for.
enum StandardInput {
    /// Nothing.
    case ignored
    /// Its end: whoever started this process has gone.
    case untilItEnds
    /// As `untilItEnds`; and each line is a topic to make.
    case topics
}

/// Runs a mock cluster until a signal asks it to end.
func serve(topics: [TopicSpecification], brokers: Int32, input: StandardInput) throws {
    guard brokers > 0 else { throw WrongUsage("--brokers: at least one is needed") }
    // Blocked before librdkafka makes its threads, so that they inherit it and only `sigwait` gets the signals.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)

    // The cluster needs a client to live in..
    let client = try makeClient(RD_KAFKA_PRODUCER, [("log_level", "4")])
    defer { rd_kafka_destroy(client) }
    guard let cluster = rd_kafka_mock_cluster_new(client, brokers) else { throw Failure("can't make the mock cluster") }
    defer { rd_kafka_mock_cluster_destroy(cluster) }
    let make = { (topic: TopicSpecification) in
        try check(
            rd_kafka_mock_topic_create(cluster, topic.name, topic.partitionCount, min(brokers, 3)),
            "can't make topic \(topic.name)")
    }
    for topic in topics { try make(topic) }
    print("ready \(String(cString: rd_kafka_mock_cluster_bootstraps(cluster)))")
    fflush(nil)

    switch input {
    case .ignored: break
    case .untilItEnds: endWithStandardInput()
    case .topics:
        // Signals are blocked here, and only these two: their default, which is to end, is what is wanted.
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
        while let line = readLine() {
            let topic = try TopicSpecification(line[...])
            try make(topic)
            print("created \(topic.name)")
            fflush(nil)
        }
        return
    }
    var received: Int32 = 0
    sigwait(&signals, &received)
}

/// Sends this process a SIGTERM when standard input ends: whoever started it has gone.
private func endWithStandardInput() {
    var thread = pthread_t()
    let code = pthread_create(
        &thread, nil,
        { _ in
            var buffer = [UInt8](repeating: 0, count: 4_096)
            while true {
                let count = read(STDIN_FILENO, &buffer, buffer.count)
                if count == 0 || (count < 0 && errno != EINTR) { break }
            }
            kill(getpid(), SIGTERM)
            return nil
        }, nil)
    precondition(code == 0, "pthread_create failed with \(code)")
    pthread_detach(thread)
}
