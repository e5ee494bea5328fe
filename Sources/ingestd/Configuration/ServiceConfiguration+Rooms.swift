import ClickHouse
import HTTPIngest
import IngestCore
import Journal
import Kafka
import Pipeline

// What the operator set, in the types of the rooms that it is for.

extension ServiceConfiguration {
    var journalConfiguration: JournalConfiguration {
        var room = JournalConfiguration(
            path: journal.path, maxBytes: journal.maxBytes, minFreeDiskBytes: journal.minFreeDiskBytes,
            retainMilliseconds: Int64(journal.retain / .milliseconds(1)),
            tables: [clickHouse.table] + events.routes.map(\.table))
        room.retainBytes = journal.retainBytes
        room.highWatermark = Double(journal.highWatermarkPercent) / 100
        room.lowWatermark = Double(journal.lowWatermarkPercent) / 100
        room.deadLettersMaxBytes = journal.deadLettersMaxBytes
        room.forwardsDeadLetters = kafka.forwardsDeadLetters
        room.requestKeyWindowMilliseconds = Int64(http.idempotencyWindow / .milliseconds(1))
        room.maxRequestKeys = http.idempotencyMaxKeys
        room.commitDelayMilliseconds = 10
        return room
    }

    var flushConfiguration: FlushConfiguration {
        FlushConfiguration(
            batchMaxRows: batching.maxRows, batchMaxBytes: batching.maxBytes,
            batchMaxAge: batching.maxAge.nanoseconds, parallelism: clickHouse.insertParallelism,
            backoffMin: retries.backoffMin.nanoseconds, backoffMax: retries.backoffMax.nanoseconds,
            holdRetryInterval: retries.holdInterval.nanoseconds, maxRejectedInARow: retries.holdAfterRejected)
    }

    var clickHouseConfiguration: ClickHouseConfiguration {
        ClickHouseConfiguration(
            endpoints: clickHouse.urls.map(\.description), database: clickHouse.database, user: clickHouse.user,
            password: clickHouse.password.value, rowMode: events.rowMode == .flat ? .flat : .envelope,
            compression: .init(rawValue: clickHouse.compression.rawValue) ?? .auto,
            connectTimeout: clickHouse.connectTimeout, requestTimeout: clickHouse.requestTimeout,
            maximumConnections: clickHouse.insertParallelism * (1 + events.routes.count),
            failureClassOverrides: clickHouse.errorClasses)
    }

    var kafkaConfiguration: KafkaSourceConfiguration {
        var source = KafkaSourceConfiguration(
            bootstrapServers: kafka.bootstrapServers.joined(separator: ","), topics: kafka.topics,
            groupID: kafka.groupID)
        // Also where this replica does not forward to it: others do.
        source.deadLetterTopic = kafka.deadLetterTopic
        source.groupInstanceID = kafka.groupInstanceID
        source.security = kafkaSecurity
        source.properties = kafkaProperties
        source.eventIDField = events.idField
        source.eventIDRules = events.idSources.map {
            EventIDRule(topic: $0.topic, source: $0.place == .header ? .header($0.name) : .field($0.name))
        }
        source.maximumInFlightBytes = kafka.maxInFlightBytes
        source.revocationTimeoutMilliseconds = Int(kafka.revokeTimeout / .milliseconds(1))
        source.commitIntervalMilliseconds = Int(kafka.commitInterval / .milliseconds(1))
        return source
    }

    /// `nil` if dead letters stay here.
    var deadLetterProducerConfiguration: DeadLetterProducerConfiguration? {
        guard kafka.forwardsDeadLetters, let topic = kafka.deadLetterTopic else { return nil }
        var producer = DeadLetterProducerConfiguration(
            bootstrapServers: kafka.bootstrapServers.joined(separator: ","), topic: topic)
        producer.security = kafkaSecurity
        producer.properties = kafkaProperties
        return producer
    }

    /// What `ingestd kafka init` makes.
    var topicAdministrationConfiguration: TopicAdministrationConfiguration {
        var room = TopicAdministrationConfiguration(
            bootstrapServers: kafka.bootstrapServers.joined(separator: ","), topics: kafka.topics,
            deadLetterTopic: kafka.deadLetterTopic)
        room.security = kafkaSecurity
        room.properties = kafkaProperties
        room.partitions = kafka.topicPartitions
        room.replication = kafka.topicReplication
        room.retentionMilliseconds = Int(kafka.topicRetention / .milliseconds(1))
        room.deadLetterPartitions = kafka.deadLetterPartitions
        room.deadLetterRetentionMilliseconds = Int(kafka.deadLetterRetention / .milliseconds(1))
        room.timeoutMilliseconds = Int(kafka.initTimeout / .milliseconds(1))
        return room
    }

    var kafkaProperties: [(name: String, value: String)] { kafka.properties.map { ($0.name, $0.value.value) } }

    var kafkaSecurity: KafkaSecurity {
        var security = KafkaSecurity()
        security.securityProtocol = kafka.securityProtocol
        security.mechanism = kafka.saslMechanism
        security.username = kafka.saslUsername
        security.password = kafka.saslPassword?.value
        security.caPath = kafka.tlsCA
        security.certificatePath = kafka.tlsCertificate
        security.keyPath = kafka.tlsKey
        security.keyPassword = kafka.tlsKeyPassword?.value
        return security
    }

    var httpConfiguration: HTTPIngestConfiguration {
        var room = HTTPIngestConfiguration(
            host: http.host, port: http.port, maxBodyBytes: http.maxBodyBytes, maxBufferedBytes: http.maxBufferedBytes,
            eventIDField: events.idField)
        room.maxRequestEvents = http.maxRequestEvents
        room.maxEventBytes = http.maxEventBytes
        room.maxCompressionRatio = http.maxCompressionRatio
        room.maxConnections = http.maxConnections
        room.headerTimeout = http.headerTimeout
        room.idleTimeout = http.idleTimeout
        room.requestTimeout = http.requestTimeout
        room.idempotencyWindow = http.idempotencyWindow
        room.token = http.token?.value
        room.operationsToken = http.operationsToken?.value
        room.tokensPath = http.tokensPath
        room.corsOrigins = http.corsOrigins
        if let certificate = http.tlsCertificate, let key = http.tlsKey {
            room.tls = .init(certificatePath: certificate, keyPath: key, clientCAPath: http.tlsClientCA)
        }
        room.clickHouseDatabase = clickHouse.database
        room.rowsAreFlat = events.rowMode == .flat
        room.serviceVersion = Version.current
        return room
    }

    /// The routes, with the streams that the journal has for their tables (it was opened with all of them).
    func streamRoutes(_ streamOfTable: (String) -> IngestCore.Stream?) -> StreamRoutes {
        func stream(_ table: String) -> IngestCore.Stream {
            guard let stream = streamOfTable(table) else {
                preconditionFailure("the journal was not opened with table \(table)")
            }
            return stream
        }
        var patterns: [(pattern: TopicPattern, stream: IngestCore.Stream)] = []
        for route in events.routes where TopicPattern.isPattern(route.name) {
            do throws(TopicPattern.Invalid) {
                patterns.append((try TopicPattern(route.name), stream(route.table)))
            } catch {
                preconditionFailure("the setting STREAMS has the pattern \(route.name): \(error)")
            }
        }
        return StreamRoutes(
            byName: Dictionary(events.routes.map { ($0.name, stream($0.table)) }) { $1 }, patterns: patterns,
            fallback: stream(clickHouse.table))
    }
}

extension Duration {
    /// Whole nanoseconds; a negative duration is 0.
    var nanoseconds: UInt64 { UInt64(max(0, self / .nanoseconds(1))) }
}
