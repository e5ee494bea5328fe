import IngestCore
import Synchronization
import Testing

@Suite struct MailboxTests {
    @Test func everythingSentIsReceivedInOrderAndOnce() {
        let mailbox = Mailbox<Int>()
        let received = Mutex<[Int]>([])
        let reader = DedicatedThread(name: "reader") {
            var batch: [Int] = []
            while mailbox.receive(into: &batch) { received.withLock { $0 += batch } }
        }
        let senders = (0..<4).map { sender in
            DedicatedThread(name: "sender") {
                for number in 0..<5_000 { mailbox.send(sender * 10_000 + number) }
            }
        }
        for sender in senders { sender.join() }
        mailbox.close()
        reader.join()
        let all = received.withLock { $0 }
        #expect(all.count == 20_000)
        for sender in 0..<4 {
            #expect(all.filter { $0 / 10_000 == sender } == Array(sender * 10_000..<sender * 10_000 + 5_000))
        }
        #expect(mailbox.send(1) == false)
    }

    @Test func receiveReturnsEmptyAtItsDeadline() {
        let mailbox = Mailbox<Int>()
        var batch = [1]
        #expect(mailbox.receive(into: &batch, until: MonotonicClock.now + 1_000_000))
        #expect(batch.isEmpty)
    }
}
