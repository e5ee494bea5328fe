import IngestCore
import Kafka
import TestSupport
import Testing

/// Several members share a topic while they come and go under load.
@Suite struct GroupTests {
    private static let partitionCount: Int32 = 6

    /// Waits until the members have all partitions, each as many as the others.
    private func settle(_ members: [GroupMember]) async throws {
        let share = Int(Self.partitionCount) / members.count
        try await eventually("\(members.count) members share the partitions") {
            members.allSatisfy { $0.partitions.count == share }
                && members.reduce(into: Set<Int32>()) { $0.formUnion($1.partitions) }.count == Self.partitionCount
        }
    }

    /// Nothing comes twice, but for what the mock's coordinator is to blame for: where Kafka takes commits while a group is
    /// joined anew, the mock refuses them. With an eager assignor that is when partitions are given up. With a cooperative
    /// one it happens where another member joins again meanwhile, which the mock can provoke on a busy machine (see
    /// `slowCoordinator`). What is excused is exactly what it refused: that the source delivered everything before it gave
    /// partitions up, and tried to commit it then, always holds.
    @Test(arguments: ["cooperative-sticky", "range"])
    func membersComeAndGoUnderLoad(strategy: String) async throws {
        let mock = try KafkaMock(brokerCount: 2)
        try mock.createTopic(Rig.topic, partitions: Self.partitionCount)
        try mock.slowCoordinator(of: "group", topic: Rig.topic, partitions: Self.partitionCount)
        let warehouse = Warehouse()
        let load = Load(mock, partitions: Self.partitionCount)
        let first = try GroupMember(mock, strategy, warehouse)
        try await settle([first])
        try await eventually("events") { warehouse.eventCount > 1_000 }
        let second = try GroupMember(mock, strategy, warehouse)
        let third = try GroupMember(mock, strategy, warehouse)
        try await settle([first, second, third])
        let before = warehouse.eventCount
        try await eventually("more events") { warehouse.eventCount > before + 1_000 }
        try await first.close()
        try await settle([second, third])
        let count = try load.stop()
        try await eventually("all of \(count) events arrive") { warehouse.eventCount == count }
        let members = [first, second, third]
        let uncommitted = members.reduce(0) { $0 + $1.pipeline.uncommitted }
        let refused = members.reduce(0) { $0 + $1.pipeline.refused }
        let duplicates = warehouse.duplicateCount
        print("\(strategy): \(count) events, \(duplicates) twice, \(refused) given up with their commit refused")
        #expect(uncommitted == 0, "\(members.map { $0.lines.all.joined(separator: "\n") }.joined(separator: "\n\n"))")
        #expect(duplicates <= refused)
        // Each look at what is committed is a client of its own, which asks for much.
        try mock.delayAnswers(milliseconds: 0, broker: 1)
        for partition in 0..<Self.partitionCount {
            try await eventually("everything is committed") {
                try mock.committedOffset(group: "group", topic: Rig.topic, partition: partition)
                    == Int64(count) / Int64(Self.partitionCount)
            }
        }
        try await second.close()
        try await third.close()
        #expect(warehouse.eventCount == count)
        #expect(warehouse.duplicateCount == duplicates)
        for member in members { #expect(member.pipeline.failure == nil) }
    }
}
